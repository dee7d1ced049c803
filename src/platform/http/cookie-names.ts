/** What the names of all cookies of this server begin and end with. */
import { basePathOf } from './base-path.ts'

export interface CookieNaming {
  /** Whether the cookies are sent only over https. */
  secure: boolean
  /** What the name of a cookie with the path `/` begins with. */
  prefix: string
  /** What the name of a cookie with another path begins with. */
  prefixBelowPath: string
  suffix: string
}

/**
 * Returns the naming of cookies for an issuer.
 *
 * With https, the prefix `__Host-` prevents other hosts and http pages from setting a cookie. It requires the path `/`.
 * So cookies with another path have the weaker prefix `__Secure-`. The suffix is made from the path of the issuer:
 * several servers may have issuers on one host that differ in their paths, and would otherwise overwrite the cookies of
 * each other.
 *
 * @example
 * cookieNaming('https://id.example.com/tenants/bank').suffix // '.tenants.bank'
 */
export function cookieNaming(issuer: string): CookieNaming {
  const secure = issuer.startsWith('https:')
  return {
    secure,
    prefix: secure ? '__Host-' : '',
    prefixBelowPath: secure ? '__Secure-' : '',
    suffix: basePathOf(issuer).split('/').map(inCookieName).join('.'),
  }
}

/** Returns a segment of a path without the characters that the names of cookies must not contain, and without dots. */
function inCookieName(segment: string): string {
  return encodeURIComponent(segment).replace(/[.'()]/g, (character) => `%${character.charCodeAt(0).toString(16)}`)
}
