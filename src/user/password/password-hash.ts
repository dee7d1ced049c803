/**
 * The format of a hash is a PHC string, with the cost and the id of the key. Its base64 is without `=`, as in all PHC
 * strings:
 *
 *     $scrypt$ln=17,r=8,p=1,keyid=<id>$<salt>$<hash>
 *
 * Older hashes have the format `scrypt.<salt>.<hash>`. They were computed by scrypt from the password itself,
 * with N = 2^15 and without an HMAC. They can still be read.
 */
import type { ScryptCost } from './scrypt.ts'

export interface PasswordHash {
  cost: ScryptCost
  /** The id of the HMAC key. Undefined if no HMAC was computed before scrypt. */
  keyId: string | undefined
  salt: Uint8Array
  hash: Uint8Array
}

const formerCost: ScryptCost = { N: 2 ** 15, r: 8, p: 1 }

export function writePasswordHash({ cost, keyId, salt, hash }: PasswordHash): string {
  const { N, r, p } = cost
  const key = keyId === undefined ? '' : `,keyid=${keyId}`
  return `$scrypt$ln=${Math.log2(N)},r=${r},p=${p}${key}$${base64(salt)}$${base64(hash)}`
}

/** Returns undefined for text that is not a hash, and for a hash whose cost is too high. */
export function readPasswordHash(text: string | undefined): PasswordHash | undefined {
  if (text === undefined) return undefined
  const [, ln, r, p, keyId, salt, hash] = phc.exec(text) ?? []
  if (ln === undefined) return readFormer(text)
  const cost = { N: 2 ** Number(ln), r: Number(r), p: Number(p) }
  return isPayable(cost) ? { cost, keyId, salt: bytes(salt!), hash: bytes(hash!) } : undefined
}

const phc =
  /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})(?:,keyid=([A-Za-z0-9+/]+))?\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]{43})$/

function readFormer(text: string): PasswordHash | undefined {
  const [, salt, hash] = /^scrypt\.([\w-]+)\.([\w-]{43})$/.exec(text) ?? []
  if (salt === undefined) return undefined
  return { cost: formerCost, keyId: undefined, salt: bytes(salt), hash: bytes(hash!) }
}

/**
 * Whether the cost is acceptable. A manipulated row must not exhaust the memory, so a hash may need at most 256 MiB:
 * twice the memory of a new hash.
 */
function isPayable({ N, r, p }: ScryptCost): boolean {
  return N >= 2 && r >= 1 && p >= 1 && p <= 16 && 128 * N * r <= 2 ** 28
}

/** Decodes base64 and base64url: Node accepts both alphabets. */
const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'))

/** Returns base64 without padding, as PHC strings use it. */
export const base64 = (of: Uint8Array) => Buffer.from(of).toString('base64').replace(/=+$/, '')
