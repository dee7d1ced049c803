/** Who alone may use a token: whoever holds this key. Nothing in it means that bearing the token is enough. */
export interface Confirmation {
  /** SHA-256 of the client certificate, base64url: `x5t#S256` (RFC 8705 §3.1). */
  certificate?: string | undefined
  /** SHA-256 thumbprint of the DPoP key, base64url: `jkt` (RFC 9449 §6.1). */
  dpopKey?: string | undefined
}
