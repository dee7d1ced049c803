/** Checks which URLs that others have chosen may be called, shown, or redirected to. */

/** Returns whether this is an http or https URL. */
export function isWebAddress(address: string): boolean {
  return /^https?:\/\//.test(address) && isNormalized(address)
}

/** Returns whether secrets may be sent to this URL: it must be https, or in development a loopback address. */
export function isSafeAddress(address: string, development: boolean): boolean {
  if (!isWebAddress(address) || address.includes('#')) return false
  const url = new URL(address)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (development && isLoopback(url.hostname))
}

/**
 * Returns whether a browser may be redirected to this URL. URLs whose content the browser would run or show as content of
 * this server are excluded.
 */
export function isRedirectAddress(address: string): boolean {
  return (
    isNormalized(address) && !address.includes('#') && !/^(javascript|data|vbscript|file|blob|about):/i.test(address)
  )
}

/** Returns whether a URL is free of spaces, line breaks and backslashes, which URL parsers read in different ways. */
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
