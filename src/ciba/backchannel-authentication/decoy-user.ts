/**
 * A request about nobody that looks like any other: what a client hears does not tell which users exist (AE-5, M30).
 */
import { createHmac } from 'node:crypto'
import type { Client } from '../../client/client.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { User } from '../../user/user.ts'
import type { DecoyUser } from '../../user/user-code/user-code.ts'
import { decoyUserId } from '../authentication-request/authentication-request.ts'

export type StandInUser = User & DecoyUser

/** Whether this client must not learn that there is nobody. */
export function mustNotLearn({ metadata }: Client, unknownUsers: 'error' | 'pretend'): boolean {
  return (metadata.backchannel_unknown_users ?? unknownUsers) === 'pretend'
}

/**
 * Makes users who are not there. The same name gives the same one, whom only so many requests may be about, and who has
 * a user code or has none; which of the two, nobody can tell beforehand.
 */
export function createDecoyUsers(vault: Vault): (named: string) => StandInUser {
  const key = vault.key('users who are not there')
  return (named) => {
    const digest = createHmac('sha256', key).update(named).digest()
    return {
      id: decoyUserId(digest.subarray(1).toString('base64url')),
      // So that a mail is written, if never sent: most users have an address.
      email: 'nobody@nowhere.invalid',
      hasCode: digest[0]! % 2 === 0,
    }
  }
}
