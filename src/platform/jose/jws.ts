/**
 * Returns whether a compact JWS (RFC 7515 §7.1) has its canonical spelling. Libraries ignore spaces, line breaks,
 * padding and unused bits, so they would also accept the same JWS in another spelling.
 */
export function isPlainJws(jws: string): boolean {
  const parts = jws.split('.')
  return parts.length === 3 && parts.every(isPlainBase64url)
}

function isPlainBase64url(part: string): boolean {
  return part !== '' && Buffer.from(part, 'base64url').toString('base64url') === part
}
