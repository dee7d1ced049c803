/** Checks whether a URL may be called, shown, or used for a redirect. */

/** Returns whether a text is an http or https URL that all URL parsers read in the same way. */
export function isWebAddress(address: string): boolean {
  return /^https?:\/\//.test(address) && isNormalized(address)
}

/**
 * Returns whether secrets may be sent to this URL: an https URL or, in development, an http URL of a loopback address.
 */
export function isSafeAddress(address: string, development: boolean): boolean {
  if (!isWebAddress(address) || address.includes('#')) return false
  const url = new URL(address)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (development && isLoopback(url.hostname))
}

/**
 * Returns whether a browser may be redirected to this URL. Excludes URLs such as `javascript:`, whose content the
 * browser would run or show as content of this server.
 */
export function isRedirectAddress(address: string): boolean {
  return (
    isNormalized(address) && !address.includes('#') && !/^(javascript|data|vbscript|file|blob|about):/i.test(address)
  )
}

/**
 * Returns whether a text is a URL of at most 2048 printable ASCII characters. It must contain no space, line break or
 * backslash, because URL parsers read these in different ways.
 */
export function isNormalized(address: string): boolean {
  return address.length <= 2048 && /^[\x21-\x5b\x5d-\x7e]+$/.test(address) && URL.canParse(address)
}

/**
 * Returns whether a host name is a loopback address.
 *
 * @param hostname as in `URL.hostname`, with IPv6 addresses in brackets
 */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}
