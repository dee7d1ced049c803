/**
 * Secrets: making them, comparing them, keeping them.
 *
 * What only needs to be recognised is hashed; what must be sent again is sealed (AES-256-GCM) with a key derived from
 * the configured secret. Secrets made by machines go through a keyed hash that is fast enough for every poll; what humans
 * chose is hashed slowly, in `password/`.
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

/** A new secret of `bytes` random bytes, base64url. 32 bytes are 256 bits and 43 characters (AK-2, AK-3). */
export function newSecret(bytes = 32): string {
  return draw(bytes, (drawn) => drawn.toString('base64url'))
}

/**
 * Random bytes to come. To ask the system for them takes longer than all else that is done with them, so it is asked for
 * many at once, as Node does for its UUIDs; none stays here once it was given out.
 */
const store = Buffer.alloc(4096)
let given = store.length

/** @param take makes something of the bytes, or a copy: they are wiped afterwards */
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
 * A new id that is unique and grows with time (UUID version 7), so that rows are added at the end of their index.
 * Not a secret: it may stand in links and logs.
 */
export function newId(now: number): string {
  const time = hexOf(now)
  // From its third group on, a UUID of version 4 is random in the very places; Node draws many at once.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/** What every id made before `time` (milliseconds since 1970) is smaller than, and no later one. */
export function idsBefore(time: number): string {
  const hex = hexOf(Math.max(0, time))
  return `${hex.slice(0, 8)}-${hex.slice(8)}`
}

/** The first 48 bits of an id. */
const hexOf = (time: number) => time.toString(16).padStart(12, '0')

/** SHA-256, base64url: how a high-entropy secret is looked up without being kept. */
export function fingerprint(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

/** Compares two strings in a time that depends on neither's content nor on where they differ. */
export function sameSecret(one: string, other: string): boolean {
  return sameFingerprint(fingerprint(one), fingerprint(other))
}

/** The same for two fingerprints, which are equally long. As text: Node takes four times as long to hash into a buffer. */
export function sameFingerprint(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(one), Buffer.from(other))
}

/** Something was sealed under another secret, or altered since. */
export class OtherSecretError extends Error {
  override readonly name = 'OtherSecretError'
}

/** What can be derived from the configured secret. Each purpose has a key of its own. */
export interface Vault {
  /**
   * Encrypts `plain`. `aad` says where the result will lie (table and row, say): a sealed text that is moved
   * elsewhere does not open.
   */
  seal(plain: string, aad: string): string
  /** Opens what `seal` made. Throws if it was altered, moved, or sealed under another secret. */
  open(sealed: string, aad: string): string
  /** A keyed hash for client secrets: worthless to whoever has the database but not the configured secret. */
  keyedHash(secret: string): string
  /** A key for one purpose, 32 bytes. */
  key(purpose: string): Buffer
}

/** @param secret at least 32 bytes, base64url */
export function createVault(secret: string): Vault {
  const root = Buffer.from(secret, 'base64url')
  const key = (purpose: string) => Buffer.from(hkdfSync('sha256', root, 'doorbell', purpose, 32))
  // As a key object: with bytes Node makes one of them for every cipher, which takes longer than the ciphering.
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
