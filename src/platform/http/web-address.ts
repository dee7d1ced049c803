/** Which addresses that others name may be called, shown, or redirected to. */

/** http or https. */
export function isWebAddress(address: string): boolean {
  return /^https?:\/\//.test(address) && isNormalized(address)
}

/** For addresses that receive secrets: https, or this machine in development. */
export function isSafeAddress(address: string, development: boolean): boolean {
  if (!isWebAddress(address) || address.includes('#')) return false
  const url = new URL(address)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (development && isLoopback(url.hostname))
}

/** For redirects of browsers: any address except those whose content the browser would run or show as this server's own. */
export function isRedirectAddress(address: string): boolean {
  return (
    isNormalized(address) && !address.includes('#') && !/^(javascript|data|vbscript|file|blob|about):/i.test(address)
  )
}

/** Excludes spaces, line breaks and backslashes, which URL parsers read in different ways. */
export function isNormalized(address: string): boolean {
  return address.length <= 2048 && /^[\x21-\x5b\x5d-\x7e]+$/.test(address) && URL.canParse(address)
}

/** @param hostname as `URL` has it, IPv6 addresses in brackets */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}
