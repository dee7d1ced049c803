/**
 * An authenticator in software. It creates passkeys and signs challenges, and returns what a browser would send. On
 * request it returns invalid responses.
 */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import type { Browser, Page } from './browser.ts'

export interface Lies {
  /** The origin of the page. */
  origin?: string
  /** The id of the relying party. */
  rpId?: string
  /** The signature counter in the response. */
  counter?: number
  /** Whether the response says that the user was verified. If not, it says only that the user was present. */
  userVerified?: boolean
  challenge?: string
  type?: string
  /** The user handle in the response. */
  userHandle?: string
  /** Signs with this key instead of the key of the passkey. */
  key?: KeyObject
}

export interface CreationOptions {
  challenge: string
  rp: { id?: string }
  user: { id: string }
}

export interface RequestOptions {
  challenge: string
  rpId: string
}

export interface Authenticator {
  credentialId: string
  /** Creates a passkey. Returns the JSON that a browser would send. */
  create(options: CreationOptions, lies?: Lies): string
  /** Signs a challenge with the passkey. Returns the JSON that a browser would send. */
  get(options: RequestOptions, lies?: Lies): string
}

/** @param counts whether the signature counter increases at each use. It does not for synced passkeys */
export function createAuthenticator(origin: string, { counts = true } = {}): Authenticator {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const id = randomBytes(32)
  const credentialId = id.toString('base64url')
  let counter = 0
  let userHandle = ''

  const authenticatorData = (rpId: string, lies: Lies, attested: Buffer = Buffer.alloc(0)) => {
    if (counts) counter++
    const flags = 0x01 | (lies.userVerified === false ? 0 : 0x04) | (attested.length > 0 ? 0x40 : 0)
    const counted = Buffer.alloc(4)
    counted.writeUInt32BE(lies.counter ?? counter)
    return Buffer.concat([sha256(lies.rpId ?? rpId), Buffer.from([flags]), counted, attested])
  }

  const clientData = (usual: string, challenge: string, lies: Lies) =>
    Buffer.from(
      JSON.stringify({
        type: lies.type ?? usual,
        challenge: lies.challenge ?? challenge,
        origin: lies.origin ?? origin,
        crossOrigin: false,
      }),
    )

  const passedOn = (response: Record<string, unknown>) =>
    JSON.stringify({ id: credentialId, rawId: credentialId, type: 'public-key', clientExtensionResults: {}, response })

  return {
    credentialId,
    create({ challenge, rp, user }, lies = {}) {
      userHandle = user.id
      const length = Buffer.alloc(2)
      length.writeUInt16BE(id.length)
      const attested = Buffer.concat([Buffer.alloc(16), length, id, coseKey(publicKey)])
      const authData = authenticatorData(rp.id ?? '', lies, attested)
      return passedOn({
        clientDataJSON: clientData('webauthn.create', challenge, lies).toString('base64url'),
        attestationObject: cbor(
          new Map<string, Cbor>([
            ['fmt', 'none'],
            ['attStmt', new Map()],
            ['authData', authData],
          ]),
        ).toString('base64url'),
        transports: ['internal'],
      })
    },
    get({ challenge, rpId }, lies = {}) {
      const data = authenticatorData(rpId, lies)
      const client = clientData('webauthn.get', challenge, lies)
      return passedOn({
        clientDataJSON: client.toString('base64url'),
        authenticatorData: data.toString('base64url'),
        signature: sign('sha256', Buffer.concat([data, sha256(client)]), lies.key ?? privateKey).toString('base64url'),
        userHandle: lies.userHandle ?? userHandle,
      })
    },
  }
}

/** Does what the script of a page does when the user presses the passkey button. */
export async function pressPasskey(browser: Browser, page: Page, authenticator: Authenticator, lies: Lies = {}) {
  const options = await passkeyOptions(browser, page)
  return sendPasskey(browser, page, authenticator.get(options, lies))
}

export async function passkeyOptions(browser: Browser, page: Page): Promise<RequestOptions> {
  const address = /data-passkey-options="([^"]+)"/.exec(page.text)?.[1]
  if (address === undefined) throw new Error(`no passkey form on this page:\n${page.text}`)
  const answer = await browser.submit({ ...page, text: `<form method="post" action="${address}"></form>` })
  return JSON.parse(answer.text) as RequestOptions
}

export function sendPasskey(browser: Browser, page: Page, response: string): Promise<Page> {
  const action = /<form data-passkey="get"[^>]* action="([^"]+)"/.exec(page.text)?.[1]
  const form = `<form method="post" action="${action}"><input name="passkey"></form>`
  return browser.submit({ ...page, text: form }, { passkey: response })
}

const sha256 = (data: string | Buffer) => createHash('sha256').update(data).digest()

function coseKey(key: KeyObject): Buffer {
  const { x = '', y = '' } = key.export({ format: 'jwk' })
  return cbor(
    new Map<number, Cbor>([
      [1, 2],
      [3, -7],
      [-1, 1],
      [-2, Buffer.from(x, 'base64url')],
      [-3, Buffer.from(y, 'base64url')],
    ]),
  )
}

type Cbor = string | number | Buffer | Map<string | number, Cbor>

/** The parts of CBOR that a passkey needs (RFC 8949). */
function cbor(value: Cbor): Buffer {
  if (typeof value === 'number') return value < 0 ? head(1, -1 - value) : head(0, value)
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)])
  if (Buffer.isBuffer(value)) return Buffer.concat([head(2, value.length), value])
  return Buffer.concat([head(5, value.size), ...[...value].flatMap(([name, item]) => [cbor(name), cbor(item)])])
}

function head(major: number, size: number): Buffer {
  if (size < 24) return Buffer.from([(major << 5) | size])
  if (size < 256) return Buffer.from([(major << 5) | 24, size])
  return Buffer.from([(major << 5) | 25, size >> 8, size & 0xff])
}
