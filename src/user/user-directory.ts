/**
 * Implements `UserHooks` for the users of the built-in directory. An application implements the same hooks for its own
 * users. The passwords of built-in users are checked in `password-check.ts`.
 */

import { createFindByIdentifier } from './find-by-identifier.ts'
import { isSameNumber, plainNumber } from './phone-number.ts'
import type { ConfiguredUser, HintSubject, User, UserHooks } from './user.ts'
import type { UserStore } from './user-store.ts'

/**
 * Returns the hooks of the built-in directory. Users from the configuration are searched first, then users that were
 * added by command.
 *
 * A `login_hint` is an id, a username, an e-mail address, a phone number or a subject identifier (RFC 9493). The letter
 * case of an e-mail address does not matter, nor that of a name that is stored in small letters. A phone number may have any visual separators, and may be a `tel:`
 * address. An `id_token_hint` identifies the user by its `sub`. A verified `login_hint_token` identifies the user by
 * the configured claim. An unverified `login_hint_token` matches no user.
 *
 * @param issuer the issuer whose subjects (`sub`) are the ids of these users
 */
export function createUserDirectory(
  configured: readonly ConfiguredUser[],
  users: UserStore,
  issuer: string,
): UserHooks {
  const byId = new Map(configured.map((user) => [user.id, user]))
  const byIdentifier = new Map(configured.flatMap((user) => identifiersOf(user).map((name) => [name, user])))
  const byNumber = new Map(configured.map((user) => [plainNumber(user.phone_number ?? ''), user]))

  const find = async (id: string): Promise<User | null> => {
    const user = byId.get(id)
    return user ? withoutSecrets(user) : ((await users.find(id)) ?? null)
  }

  async function findByName(name: string): Promise<User | null> {
    const number = plainNumber(name)
    const configured =
      byIdentifier.get(name) ??
      byIdentifier.get(name.toLowerCase()) ??
      (number === undefined ? undefined : byNumber.get(number))
    // The users that were added by command are searched even if the configuration contains the name, so that the time
    // does not reveal which names exist.
    const added = await users.findByIdentifier(name)
    return configured ? withoutSecrets(configured) : (added ?? null)
  }

  /**
   * Finds a user by the value of a claim. The claim determines which property of the user is compared: an e-mail
   * address does not match a username.
   */
  async function findBySubject({ claim, value }: HintSubject): Promise<User | null> {
    if (typeof value !== 'string' || value === '') return null
    if (!Object.hasOwn(namesByClaim, claim)) return find(value)
    const user = await findByName(value)
    const name = user?.[namesByClaim[claim as keyof typeof namesByClaim]]
    if (claim === 'email') return name?.toLowerCase() === value.toLowerCase() ? user : null
    return name === value || (claim === 'phone_number' && isSameNumber(name, value)) ? user : null
  }

  const findByIdentifier = createFindByIdentifier({ find, findByName, findBySubject, issuer })

  return {
    find,
    async findByHint(hint) {
      if (hint.kind === 'login_hint_token') return hint.subject === undefined ? null : findBySubject(hint.subject)
      if (hint.kind === 'id_token_hint') return find(String(hint.claims?.sub ?? ''))
      return hint.identifier === undefined ? findByName(hint.value) : findByIdentifier(hint.identifier)
    },
  }
}

/** Claims that contain one of the identifiers of a user. Any other claim contains the id of the user. */
const namesByClaim = { email: 'email', phone_number: 'phone_number', preferred_username: 'username' } as const

function identifiersOf(user: ConfiguredUser): string[] {
  const names = [user.id, user.username, user.email?.toLowerCase(), user.phone_number]
  return names.filter((name) => name !== undefined)
}

function withoutSecrets(user: ConfiguredUser): User {
  const { password, user_code, same_person, ...rest } = user
  return rest
}
