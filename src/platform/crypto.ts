/**
 * Making, comparing and storing secrets.
 *
 * Secrets that are only compared are hashed. Secrets that must be sent again are encrypted (AES-256-GCM) with a key derived
 * from the configured secret. Generated secrets use a keyed hash that is fast enough for every poll; passwords and user codes
 * are hashed slowly, in `password/`.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hash,
  hkdfSync,
  randomFillSync,
  randomUUID,
  timingSafeEqual,
} from 'node:crypto'

/** Returns a new secret of `bytes` random bytes, base64url. 32 bytes are 256 bits and 43 characters. */
export function newSecret(bytes = 32): string {
  return draw(bytes, (drawn) => drawn.toString('base64url'))
}

/**
 * A buffer of random bytes. A call to the system's generator takes longer than all other work on them, so many are fetched at
 * once, as Node does for its UUIDs. Bytes are wiped from the buffer once used.
 */
const store = Buffer.alloc(4096)
let given = store.length

/** @param take converts or copies the bytes: they are wiped afterwards */
function draw<Taken>(bytes: number, take: (drawn: Buffer) => Taken): Taken {
  if (given + bytes > store.length) {
    randomFillSync(store)
    given = 0
  }
  const drawn = store.subarray(given, given + bytes)
  given += bytes
  const taken = take(drawn)
  drawn.fill(0)
  return taken
}

/**
 * Returns a new unique id that grows with time (UUID version 7), so that rows are added at the end of their index. Not a
 * secret: it may be in links and logs.
 */
export function newId(now: number): string {
  const time = hexOf(now)
  // From its third group on, a UUID of version 4 has its random bits in the same places; Node generates many at once.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/** Returns a bound greater than every id made before `time` (milliseconds since 1970), and not than later ones. */
export function idsBefore(time: number): string {
  const hex = hexOf(Math.max(0, time))
  return `${hex.slice(0, 8)}-${hex.slice(8)}`
}

/** The first 48 bits of an id. */
const hexOf = (time: number) => time.toString(16).padStart(12, '0')

/** Returns SHA-256, base64url: a high-entropy secret is looked up by it and not stored itself. */
export function fingerprint(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

/** Compares two strings in constant time. */
export function sameSecret(one: string, other: string): boolean {
  return sameFingerprint(fingerprint(one), fingerprint(other))
}

/** Compares two fingerprints in constant time. As text, because Node takes four times as long to hash into a buffer. */
export function sameFingerprint(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other))
}

/** A value was encrypted with another secret, or altered since. */
export class OtherSecretError extends Error {
  override readonly name = 'OtherSecretError'
}

/** Keys derived from the configured secret, a different one for each purpose. */
export interface Vault {
  /**
   * Encrypts `plain`. `aad` is the additional authenticated data, for instance table and row: a value that is moved elsewhere
   * does not decrypt.
   */
  seal(plain: string, aad: string): string
  /** Decrypts what `seal` returned. Throws if it was altered, moved, or encrypted with another secret. */
  open(sealed: string, aad: string): string
  /** A keyed hash for client secrets: useless without the configured secret. */
  keyedHash(secret: string): string
  /** Returns a key for one purpose, 32 bytes. */
  key(purpose: string): Buffer
}

/** @param secret at least 32 bytes, base64url */
export function createVault(secret: string): Vault {
  const root = Buffer.from(secret, 'base64url')
  const key = (purpose: string) => Buffer.from(hkdfSync('sha256', root, 'doorbell', purpose, 32))
  // As a key object: given bytes, Node makes one for every cipher, which takes longer than the encryption.
  const sealing = createSecretKey(key('sealing'))
  const hashing = createSecretKey(key('client secrets'))

  return {
    key,
    seal(plain, aad) {
      const iv = draw(12, (drawn) => Buffer.from(drawn))
      const cipher = createCipheriv('aes-256-gcm', sealing, iv).setAAD(Buffer.from(aad))
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return `v1.${Buffer.concat([iv, body, cipher.getAuthTag()]).toString('base64url')}`
    },
    open(sealed, aad) {
      const bytes = sealed.startsWith('v1.') ? Buffer.from(sealed.slice(3), 'base64url') : Buffer.alloc(0)
      if (bytes.length < 28) throw new Error(`the value stored at ${aad} is not encrypted in the expected format`)
      const decipher = createDecipheriv('aes-256-gcm', sealing, bytes.subarray(0, 12))
        .setAAD(Buffer.from(aad))
        .setAuthTag(bytes.subarray(-16))
      try {
        return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString('utf8')
      } catch {
        throw new OtherSecretError(
          `the value stored at ${aad} cannot be decrypted: another secret is configured, or the value was altered`,
        )
      }
    },
    keyedHash: (secret) => createHmac('sha256', hashing).update(secret).digest('base64url'),
  }
}
