/**
 * Decoy users, for clients that must not find out which users exist (CIBA §13, `unknown_user_id`). For such a client, a
 * request about an unknown user is stored and answered like any other request, with a decoy user in place of the user.
 */
import { createHmac } from 'node:crypto'
import type { Client } from '../../client/client.ts'
import type { Vault } from '../../platform/crypto.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { readSubjectIdentifier } from '../../user/subject-identifier.ts'
import type { User } from '../../user/user.ts'
import type { DecoyUser } from '../../user/user-code/user-code.ts'
import { decoyUserId } from '../authentication-request/authentication-request.ts'
import type { SentHint } from '../user-hint/find-user.ts'

export type UserOrDecoy = User & DecoyUser

/** Whether this client must not learn that a user does not exist. */
export function hidesUnknownUsers({ metadata }: Client, unknownUsers: 'error' | 'pretend'): boolean {
  return (metadata.backchannel_unknown_users ?? unknownUsers) === 'pretend'
}

/**
 * Throws `invalid_request` if the hint is a subject identifier (RFC 9493) in another format than `iss_sub`. A client could
 * name one user in several formats, or several users in `aliases`. The limits for one user, and who is asked, would then
 * tell the client which of these users exist.
 */
export function refuseSubjectIdentifiers({ kind, value }: SentHint): void {
  const format = kind === 'login_hint' ? readSubjectIdentifier(value)?.format : undefined
  if (format === undefined || format === 'iss_sub') return
  throw new OAuthError('invalid_request', 'this client must send login_hint as plain text, or in the format iss_sub')
}

/**
 * Returns a function that makes the decoy user for an identifier, such as the identifier in a hint. The same identifier
 * gives the same decoy user, so that the limits for one user also apply to decoy users. Half of the decoy users have a
 * user code. A client cannot predict which decoy users have a code, because it does not know the key of the HMAC.
 */
export function createDecoyUsers(vault: Vault): (named: string) => UserOrDecoy {
  const key = vault.key('users who are not there')
  return (named) => {
    const digest = createHmac('sha256', key).update(named).digest()
    return {
      id: decoyUserId(digest.subarray(1).toString('base64url')),
      // Most real users have a mail address, so a message to the user is usually stored with a request. With this
      // address, a message to a decoy user is also stored, so that accepting a request takes the same time. This
      // message is never sent.
      email: 'nobody@nowhere.invalid',
      hasCode: digest[0]! % 2 === 0,
    }
  }
}
