/**
 * Generates, compares and stores secrets.
 *
 * Secrets that are only compared are hashed. Secrets that must be sent again are encrypted (AES-256-GCM) with a key
 * that is derived from the configured secret. The hash of a generated secret is fast, because it is computed at every
 * poll. The hash of a password or a user code is slow (`user/password/`).
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hash,
  hkdfSync,
  type KeyObject,
  randomFillSync,
  randomUUID,
  timingSafeEqual,
} from 'node:crypto'
import type { OnUnreadable } from './unreadable-values.ts'

/** Returns a new secret of `bytes` random bytes, base64url. 32 bytes are 256 bits and 43 characters. */
export function newSecret(bytes = 32): string {
  return draw(bytes, (drawn) => drawn.toString('base64url'))
}

/**
 * Random bytes that were fetched in advance. A call of the system's random generator takes longer than all other work
 * on a secret, so one call fetches bytes for many secrets. Node does the same for its UUIDs. Used bytes are overwritten
 * with zeros.
 */
const store = Buffer.alloc(4096)
let given = store.length

/**
 * Takes random bytes from `store`.
 *
 * @param take must convert or copy the bytes, because they are overwritten afterwards
 */
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
 * Returns a new unique id (UUID version 7). Later ids are greater, so that rows are added at the end of their index. An
 * id is not a secret: it may appear in links and logs.
 */
export function newId(now: number): string {
  const time = hexOf(now)
  // The random bits are taken from a UUID of version 4, which has them at the same positions. This is fast, because
  // Node generates many such UUIDs in advance.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/**
 * Returns a text that is greater than all ids made before `time` (milliseconds since 1970) and less than all other ids.
 */
export function idsBefore(time: number): string {
  const hex = hexOf(Math.max(0, time))
  return `${hex.slice(0, 8)}-${hex.slice(8)}`
}

let last = { time: Number.NaN, hex: '' }

/**
 * Returns the first 48 bits of all ids that are made at `time`, in hexadecimal. The last result is cached, because many
 * ids are made in the same millisecond.
 */
function hexOf(time: number): string {
  if (last.time !== time) last = { time, hex: time.toString(16).padStart(12, '0') }
  return last.hex
}

/**
 * Returns the SHA-256 hash, base64url. Of a high-entropy secret, only this hash is stored. The secret is looked up by
 * the hash.
 */
export function fingerprint(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

/**
 * Compares two strings in constant time. It compares their hashes, because all hashes have the same length. The hashes
 * are texts, because hashing into a buffer would take Node four times as long.
 */
export function sameSecret(one: string, other: string): boolean {
  return timingSafeEqual(Buffer.from(fingerprint(one)), Buffer.from(fingerprint(other)))
}

/** Thrown if a value was encrypted with another secret, or was altered after its encryption. */
export class OtherSecretError extends Error {
  override readonly name = 'OtherSecretError'
}

/** Encrypts and decrypts with one key. */
export interface Sealing {
  /**
   * Encrypts `plain`. `aad` is the additional authenticated data, for instance the table and the row: a value that is
   * moved to another row cannot be decrypted there.
   */
  seal(plain: string, aad: string): string
  /**
   * Decrypts a value that `seal` has returned. `aad` must be the same as in the call of `seal`.
   *
   * @throws {OtherSecretError} if the value was altered, was moved to another row, or was encrypted with another secret
   */
  open(sealed: string, aad: string): string
  /**
   * Decrypts a stored value. If the value cannot be decrypted, reports the error and returns undefined, so that one
   * damaged row does not stop the work on other rows.
   */
  openStored(sealed: string, aad: string): string | undefined
  /** Like `openStored`, for a value that is JSON. The JSON is parsed. */
  openJson<Value>(sealed: string, aad: string): Value | undefined
}

/** Keys that are derived from the configured secret. Each purpose has a key of its own. */
export interface Vault extends Sealing {
  /**
   * Returns a keyed hash, for instance of a client secret. An attacker who has the hash, but not the configured secret,
   * cannot check a guess.
   */
  keyedHash(secret: string): string
  /** Returns a key for one purpose, 32 bytes. */
  key(purpose: string): Buffer
  /**
   * Returns `seal` and `open` with a key that is derived from the configured secret and from `secret`. Both secrets are
   * needed to decrypt a value that was encrypted with this `seal`.
   */
  sealingWith(secret: string): Sealing
}

/** Returns the vault of a configured secret. @param secret at least 32 bytes, base64url */
export function createVault(secret: string, onUnreadable: OnUnreadable = () => {}): Vault {
  const root = Buffer.from(secret, 'base64url')
  const key = (purpose: string) => Buffer.from(hkdfSync('sha256', root, 'doorbell', purpose, 32))
  // The two keys are key objects. If they were bytes, Node would create a key object for every cipher, which takes
  // longer than the encryption itself.
  const sealing = createSecretKey(key('sealing'))
  const hashing = createSecretKey(key('client secrets'))

  return {
    key,
    ...createSealing(sealing, onUnreadable),
    sealingWith: (secret) => createSealing(createSecretKey(key(`sealing with ${secret}`)), onUnreadable),
    keyedHash: (secret) => createHmac('sha256', hashing).update(secret).digest('base64url'),
  }
}

function createSealing(sealing: KeyObject, onUnreadable: OnUnreadable): Sealing {
  function open(sealed: string, aad: string): string {
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
  }

  function openStored(sealed: string, aad: string): string | undefined {
    try {
      return open(sealed, aad)
    } catch (error) {
      onUnreadable(aad, error)
      return undefined
    }
  }

  return {
    seal(plain, aad) {
      const iv = draw(12, (drawn) => Buffer.from(drawn))
      const cipher = createCipheriv('aes-256-gcm', sealing, iv).setAAD(Buffer.from(aad))
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      return `v1.${Buffer.concat([iv, body, cipher.getAuthTag()]).toString('base64url')}`
    },
    open,
    openStored,
    openJson<Value>(sealed: string, aad: string) {
      const text = openStored(sealed, aad)
      return text === undefined ? undefined : (JSON.parse(text) as Value)
    },
  }
}
