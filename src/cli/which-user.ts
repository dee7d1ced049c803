/** Whom a command means, and what it is told of them. */
import { text as readAll } from 'node:stream/consumers'
import type { Config } from '../config/config.ts'
import type { Vault } from '../platform/crypto.ts'
import { didYouMean, nearest } from '../platform/validation.ts'
import { createPasswordHashing } from '../user/password/password-hashing.ts'
import { scryptHere } from '../user/password/scrypt.ts'
import type { ConfiguredUser } from '../user/user.ts'
import type { UserStore } from '../user/user-store.ts'
import { Failure } from './context/failure.ts'

/** With hooks, the users are the application's, and the built-in directory is asked nothing. */
export function configuredUsers({ users }: Config): readonly ConfiguredUser[] {
  if (Array.isArray(users)) return users
  throw new Failure('This configuration looks up users by hooks; the built-in directory is not in use.')
}

/**
 * The id of the user who is called so: by id, username, e-mail address or phone number. What nobody here is called is
 * taken for an id: that of somebody who is gone, or of an application's own user.
 */
export async function idOf(who: string, configured: readonly ConfiguredUser[], users: UserStore): Promise<string> {
  const byId = configured.find(({ id }) => id === who)
  const byName = configured.find((user) => [user.username, user.email, user.phone_number].includes(who))
  return (byId ?? byName ?? (await users.findByIdentifier(who)))?.id ?? who
}

/** A user in an answer: as the operator typed it, and the id if that is something else. */
export function named(who: string, id: string): string {
  return who === id ? who : `${who} (${id})`
}

/** Only users added by command can be changed by command. */
export async function notAdded(who: string, id: string, config: Config, users: UserStore): Promise<Failure> {
  if (configuredUsers(config).some((user) => user.id === id)) {
    return new Failure(`${who} comes from the configuration. Remove the user there and restart the server.`)
  }
  return new Failure(
    `There is no user ${who}${nearTo(who, await namesOf(users)) || '; "npx doorbell user list" lists them.'}`,
  )
}

/** What users who were added by command are called. */
export async function namesOf(users: UserStore): Promise<string[]> {
  return (await users.list()).flatMap((user) =>
    [user.id, user.username, user.email].filter((name) => name !== undefined),
  )
}

/** For the end of a sentence: whose name is nearly the one that was typed; empty if none is. */
export const nearTo = (who: string, names: string[]) => didYouMean(nearest(who, names))

export async function readSecret(what: 'password' | 'code'): Promise<string> {
  const name = what === 'password' ? 'Password' : 'Code'
  if (process.stdin.isTTY) process.stderr.write(`${name} (it will be visible; end with Enter and Ctrl-D): `)
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure(`The ${what} on standard input is empty.`)
  return secret
}

/** With the secret of the configuration: a hash made with another matches nothing at the server. */
export const hashingWith = (vault: Vault) => createPasswordHashing({ vault, scrypt: scryptHere })
