/** Reads subject identifiers (RFC 9493), which clients send as JSON in `login_hint`. */
import { isTooDeep } from '../platform/http/form.ts'
import { holdsOnlyStorable, isStorable } from '../platform/http/outside-text.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { isPlain } from '../platform/validation.ts'
import type { SubjectIdentifier } from './user.ts'

/** The members that each format must have, all of them strings (RFC 9493 §3.2). */
const membersOf: Readonly<Record<string, readonly string[]>> = {
  account: ['uri'],
  email: ['email'],
  iss_sub: ['iss', 'sub'],
  opaque: ['id'],
  phone_number: ['phone_number'],
}

/** Maximum number of identifiers in the format `aliases`. For each of them, a user is looked up. */
const mostAliases = 5
/** Maximum length of a hint in characters. A longer hint is not parsed. */
const longest = 4096

/**
 * Returns the subject identifier that a `login_hint` contains as JSON, or undefined if the hint is anything else. An
 * identifier of an unknown format is returned unchanged, so that the application's hooks can handle it.
 *
 * @throws {OAuthError} `invalid_request` if a member of a known format is missing or invalid
 */
export function readSubjectIdentifier(hint: string): SubjectIdentifier | undefined {
  const value = hint.length <= longest && /^\s*\{/.test(hint) ? parsed(hint) : undefined
  if (!isIdentifier(value)) return undefined
  if (isTooDeep(value) || !holdsOnlyStorable(value)) {
    throw refused('it has characters that are not allowed, or is nested too deeply')
  }
  if (value.format === 'aliases') refuseUnlessAliases(value)
  else refuseUnlessComplete(value)
  return value
}

/**
 * Returns the plain text that a subject identifier contains, for example `u1` for `{"format":"opaque","id":"u1"}`. So a
 * hint as JSON is treated like the same hint as plain text.
 */
export function textOf(identifier: SubjectIdentifier): string {
  if (identifier.format === 'aliases') return (identifier.identifiers as SubjectIdentifier[]).map(textOf).sort()[0]!
  const member = Object.hasOwn(membersOf, identifier.format) ? membersOf[identifier.format]!.at(-1)! : undefined
  const text = member === undefined ? JSON.stringify(identifier) : String(identifier[member])
  return identifier.format === 'account' ? accountIn(text) : text
}

/**
 * Returns the account of an `acct:` address: `alice@example.com` (RFC 7565). An account that cannot be decoded, or
 * whose decoded text cannot be stored, is returned as it is, because no user has such an account.
 */
export function accountIn(uri: string): string {
  const account = uri.replace(/^acct:/i, '')
  try {
    const decoded = decodeURIComponent(account)
    return isStorable(decoded) ? decoded : account
  } catch {
    return account
  }
}

/**
 * Returns the username in an account of this server, for example `alice` for `alice@id.example.com`. Returns undefined if
 * the host of the account is that of another server.
 */
export function usernameIn(account: string, issuer: string): string | undefined {
  const [name, host] = account.split(/@(?=[^@]*$)/)
  return host !== undefined && host.toLowerCase() === new URL(issuer).host ? name : undefined
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isIdentifier(value: unknown): value is SubjectIdentifier {
  return isPlain(value) && typeof value.format === 'string'
}

function refuseUnlessComplete(identifier: SubjectIdentifier): void {
  if (!Object.hasOwn(membersOf, identifier.format)) return
  const missing = membersOf[identifier.format]!.find((name) => !isText(identifier[name]))
  if (missing !== undefined) throw refused(`${missing} must be a string that is not empty`)
  if (identifier.format === 'account' && !/^acct:[^@]/i.test(String(identifier.uri))) {
    throw refused('uri must be an acct address')
  }
}

/** RFC 9493 §3.2.8: `aliases` is a list of identifiers of one subject. None of them may itself be `aliases`. */
function refuseUnlessAliases({ identifiers }: SubjectIdentifier): void {
  if (!Array.isArray(identifiers) || identifiers.length === 0 || identifiers.length > mostAliases) {
    throw refused(`identifiers must be a list of 1 to ${mostAliases} subject identifiers`)
  }
  for (const each of identifiers) {
    if (!isIdentifier(each) || each.format === 'aliases') {
      throw refused('identifiers must contain subject identifiers, and no aliases')
    }
    refuseUnlessComplete(each)
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function refused(reason: string): OAuthError {
  return new OAuthError('invalid_request', `login_hint is not a valid subject identifier: ${reason}`)
}
