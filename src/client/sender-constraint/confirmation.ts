/** The key that a token is bound to (`cnf`, RFC 7800). If both members are missing, the token is a bearer token. */
export interface Confirmation {
  /** SHA-256 of the client certificate, base64url: `x5t#S256` (RFC 8705 §3.1). */
  certificate?: string | undefined
  /** SHA-256 thumbprint of the DPoP key, base64url: `jkt` (RFC 9449 §6.1). */
  dpopKey?: string | undefined
}
