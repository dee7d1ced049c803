/** Addresses that others name: which of them may be called, shown, or led to. */

/** http or https. */
export function isWebAddress(address: string): boolean {
  return /^https?:\/\//.test(address) && isTidy(address)
}

/** Where secrets are sent: https, or this very machine in development. */
export function isSafeAddress(address: string, development: boolean): boolean {
  if (!isWebAddress(address) || address.includes('#')) return false
  const url = new URL(address)
  if (url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (development && isLoopback(url.hostname))
}

/** Where a browser may be led: anything but what it would run or show as its own. */
export function isRedirectAddress(address: string): boolean {
  return isTidy(address) && !address.includes('#') && !/^(javascript|data|vbscript|file|blob|about):/i.test(address)
}

/** URL parsers forgive spaces, line breaks and backslashes, each in its own way; we want one reading only. */
export function isTidy(address: string): boolean {
  return address.length <= 2048 && /^[\x21-\x5b\x5d-\x7e]+$/.test(address) && URL.canParse(address)
}

/** @param hostname as `URL` has it, IPv6 addresses in brackets */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}
