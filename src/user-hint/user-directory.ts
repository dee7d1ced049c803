/** The built-in users behind the same four questions that an application's own hooks answer. */
import { sameSecret, verifyPassword } from '../secret.ts'
import type { ConfiguredUser, User, UserHooks } from './user.ts'
import type { UserStore } from './user-store.ts'

/**
 * Users from the configuration come first, then those added by command.
 *
 * A `login_hint` is an id, a username, an e-mail address (in any letter case) or a phone number. An `id_token_hint`
 * names its subject. A `login_hint_token` means nothing to a built-in directory: it takes a `findByHint` hook.
 */
export function createUserDirectory(configured: readonly ConfiguredUser[], users: UserStore): UserHooks {
  const byId = new Map(configured.map((user) => [user.id, user]))
  const byIdentifier = new Map(configured.flatMap((user) => identifiersOf(user).map((name) => [name, user])))

  const find = async (id: string): Promise<User | null> => {
    const user = byId.get(id)
    return user ? withoutSecrets(user) : ((await users.find(id)) ?? null)
  }

  return {
    find,
    async findByHint(hint) {
      if (hint.kind === 'login_hint_token') return null
      if (hint.kind === 'id_token_hint') return find(String(hint.claims?.sub ?? ''))
      const user = byIdentifier.get(hint.value) ?? byIdentifier.get(hint.value.toLowerCase())
      return user ? withoutSecrets(user) : ((await users.findByIdentifier(hint.value)) ?? null)
    },
    async verifyPassword({ id }, password) {
      const plain = byId.get(id)?.password
      const hash = plain === undefined ? (await users.find(id))?.passwordHash : undefined
      // Stretched in any case: the time it takes must not tell which names exist.
      const matches = await verifyPassword(password, hash)
      return plain === undefined ? matches : sameSecret(plain, password)
    },
  }
}

function identifiersOf(user: ConfiguredUser): string[] {
  const names = [user.id, user.username, user.email?.toLowerCase(), user.phone_number]
  return names.filter((name) => name !== undefined)
}

function withoutSecrets(user: ConfiguredUser): User {
  const { password, user_code, ...rest } = user
  return rest
}
