/** Finds the user whom the operator named in a command. */
import { text as readAll } from 'node:stream/consumers'
import type { Config } from '../config/config.ts'
import { type NamesOfUser, weaknessOfPassword, weaknessOfUserCode } from '../config/weak-values.ts'
import { erasedAs } from '../endings/end-user.ts'
import { exportUser } from '../endings/export-user.ts'
import type { Vault } from '../platform/crypto.ts'
import type { Database } from '../platform/storage/database.ts'
import { didYouMean, nearest } from '../platform/validation.ts'
import { createPasswordHashing } from '../user/password/password-hashing.ts'
import { scryptHere } from '../user/password/scrypt.ts'
import type { ConfiguredUser } from '../user/user.ts'
import { createUserGenerationStore } from '../user/user-generation-store.ts'
import { createUserStore, type UserStore } from '../user/user-store.ts'
import type { CommandContext } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { refuseWeak } from './context/weak-input.ts'

/**
 * Returns the users of the configuration. Throws if an application supplies the users with hooks, because the built-in
 * user directory is then not used.
 */
export function configuredUsers({ users }: Config): readonly ConfiguredUser[] {
  if (Array.isArray(users)) return users
  throw new Failure('This configuration looks up users by hooks; the built-in directory is not in use.')
}

/**
 * Resolves to the id of the user with this id, username, email address or phone number. If there is no such user, it
 * resolves to `who`, which may be the id of a removed user, or of a user whom the application supplies.
 */
export async function idOf(who: string, configured: readonly ConfiguredUser[], users: UserStore): Promise<string> {
  const byId = configured.find(({ id }) => id === who)
  const byName = configured.find((user) => [user.username, user.email, user.phone_number].includes(who))
  return (byId ?? byName ?? (await users.findByIdentifier(who)))?.id ?? who
}

/** Returns the name of a user for output: the name that the operator typed, followed by the id if it is different. */
export function named(who: string, id: string): string {
  return who === id ? who : `${who} (${id})`
}

/** What an operator does in the configuration to change a user who is listed there, as a sentence. */
export const inConfiguration = {
  lock: 'Set "disabled: true" in the user\'s entry there, and restart the server.',
  unlock: 'Remove "disabled" from the user\'s entry there, and restart the server.',
  password: 'Change "password" in the user\'s entry there, and restart the server.',
  remove: `Remove the user's entry there, and restart the server. This deletes the passkeys
and the user code of the user permanently. To lock the user instead, set "disabled: true" in the entry.`,
}

/**
 * Resolves to the failure for a user who was not added by command, and therefore cannot be changed by command.
 *
 * @param change how a user of the configuration is changed, one of `inConfiguration`; undefined for commands that also
 *   apply to such users
 */
export async function notAdded(
  who: string,
  id: string,
  { config, database }: CommandContext,
  users: UserStore,
  change?: string,
): Promise<Failure> {
  if (change !== undefined && configuredUsers(config).some((user) => user.id === id)) {
    return new Failure(`${who} comes from the configuration. ${change}`)
  }
  if (await mayBeOfApplication(id, database)) {
    return new Failure(
      `${who} was not added by command, and is not in the configuration. If your application has this user, change the user there.\n` +
        'For such a user there are "npx doorbell user sign-out", "export", "forget-passkeys" and "erase".',
    )
  }
  return new Failure(
    `There is no user ${who}${nearTo(who, await namesOf(users)) || '; "npx doorbell user list" lists them.'}`,
  )
}

/**
 * Resolves to whether an application that embeds the server may have this user. A command does not get the hooks of
 * such an application. So this function checks three things: there is data about the user, the user was not added by
 * command, and the user was not removed by command or from the configuration.
 */
export async function mayBeOfApplication(id: string, database: Database): Promise<boolean> {
  if ((await createUserStore(database).find(id)) !== undefined) return false
  if ((await createUserGenerationStore(database).find(id)).isClosed) return false
  return (await exportUser(id, undefined, { database })) !== undefined
}

/**
 * Resolves to the failure for a name or id under which there is neither a user nor data. The user may have been removed:
 * then the data that is kept can be found only by the id.
 */
export async function noData(who: string, id: string, context: CommandContext, users: UserStore): Promise<Failure> {
  if (await wasErased(id, context)) return new Failure(`${who} was erased: there is no data about this user any more.`)
  return new Failure(
    `There is no user ${who}, and no data under the id ${who}.\n` +
      'The username, email and phone of a removed user are deleted; what is kept about the user can be found only by the id.\n' +
      `"npx doorbell user list --removed" lists these ids; the audit event user.removed contains the id too${nearTo(who, await namesOf(users)) || '.'}`,
  )
}

/** Resolves to whether a user with this id was erased. Of such a user, the database keeps a hash of the id. */
export async function wasErased(id: string, { database, vault }: CommandContext): Promise<boolean> {
  const closed = await createUserGenerationStore(database).closedOf([erasedAs(id, vault)])
  return closed.size > 0
}

/** Resolves to all ids, usernames and email addresses of the users that were added by command. */
export async function namesOf(users: UserStore): Promise<string[]> {
  return (await users.list()).flatMap((user) =>
    [user.id, user.username, user.email].filter((name) => name !== undefined),
  )
}

/** Returns "; did you mean …?" with a similar name, or an empty text if no name is similar. */
export const nearTo = (who: string, names: string[]) => didYouMean(nearest(who, names))

export async function readSecret(what: 'password' | 'code'): Promise<string> {
  const name = what === 'password' ? 'Password' : 'Code'
  if (process.stdin.isTTY) process.stderr.write(`${name} (it will be visible; end with Enter and Ctrl-D): `)
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure(`The ${what} on standard input is empty.`)
  return secret
}

/** Throws in production if the new password of the user is weak. @param given undefined if the command generates one */
export function refuseWeakPassword(given: string | undefined, user: NamesOfUser, config: Config): void {
  const weakness = given === undefined ? undefined : weaknessOfPassword(given, user)
  const otherwise = 'leave out --password-stdin: then the command makes a random one'
  refuseWeak(`the password of ${shortNameOf(user)}`, weakness, config, otherwise)
}

/** Throws in production if the new user code is weak. @param given undefined if the command generates one */
export function refuseWeakCode(given: string | undefined, user: NamesOfUser, config: Config): void {
  const weakness = given === undefined ? undefined : weaknessOfUserCode(given, user)
  const otherwise = 'leave out --code-stdin: then the command makes a random one'
  refuseWeak(`the code of ${shortNameOf(user)}`, weakness, config, otherwise)
}

/** Returns the name by which an operator knows the user. The id comes last, because it may be random. */
export function shortNameOf({ id, username, email, phone_number }: NamesOfUser): string {
  return username ?? email ?? phone_number ?? id
}

/**
 * Returns the password hashing for commands. It uses the configured secret, because the server can check only hashes
 * that were made with the same secret.
 */
export const hashingWith = (vault: Vault) => createPasswordHashing({ vault, scrypt: scryptHere })
