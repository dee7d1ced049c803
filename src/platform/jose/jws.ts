/**
 * Whether a compact JWS (RFC 7515 §7.1) is spelled in the one way its bytes have. Libraries read past spaces, line
 * breaks, padding and bits that mean nothing: what was changed so would still verify.
 */
export function isPlainJws(jws: string): boolean {
  const parts = jws.split('.')
  return parts.length === 3 && parts.every(isPlainBase64url)
}

function isPlainBase64url(part: string): boolean {
  return part !== '' && Buffer.from(part, 'base64url').toString('base64url') === part
}
