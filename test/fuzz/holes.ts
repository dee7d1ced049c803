/**
 * Fills the placeholders of a request: `{{basic:kiosk}}`, `{{auth_req_id:3}}`, `{{jwt:…}}`. Values that the server
 * issued earlier are kept here, so that later requests can use them.
 */
import { createHash, createHmac, sign } from 'node:crypto'
import { newSecret } from '../../src/platform/crypto.ts'
import { basic, credentials, secrets } from '../support/stage.ts'
import type { House, KeyName } from './house.ts'
import type { Heard } from './wire.ts'

/**
 * A JWT to be made. In the claims, `"$now+60"` is a time, `"$new"` a new value, `"$hash:…"` the hash of a placeholder.
 */
export interface Jwt {
  /** `none` omits the signature, `secret` is an HMAC with a client's secret. */
  key: KeyName | 'none' | 'secret'
  header: Record<string, unknown>
  claims: unknown
  /** Replaces the claims; may be invalid JSON. */
  payload?: string
  /** A change of the finished JWT. */
  spoiled?: 'cut' | 'dots' | 'swapped' | 'bit' | 'padded' | 'huge'
}

export interface Holes {
  fill(text: string, encode: (value: string) => string): string
  /** Remembers the values that a response contains. */
  learn(heard: Heard): void
  /** Returns whether this is an issued value or a secret: it must not be in a log. */
  isSecret(word: string): boolean
}

export const holeFor = (jwt: Jwt) => `{{jwt:${Buffer.from(JSON.stringify(jwt)).toString('base64url')}}}`

/** At most this many values of each kind are remembered. */
const most = 24

/** Values of responses that later requests can use. Not all are secret: ids may be logged. */
const learnt = [
  'auth_req_id',
  'access_token',
  'refresh_token',
  'id_token',
  'request_id',
  'registration_access_token',
  'client_id',
] as const
const mayBeLogged = ['request_id', 'client_id', 'session_id', 'uid', 'form_token', 'nonce']

export function createHoles(house: House): Holes {
  const known = new Map<string, string[]>()
  /** Values of the current session, which have priority. */
  const current: Record<string, () => string> = {
    access_token: () => house.userToken,
    form_token: () => house.formToken,
  }
  const secret = new Set<string>()

  function remember(kind: string, value: string): void {
    const values = known.get(kind) ?? []
    if (values.includes(value)) return
    values.push(value)
    if (values.length > most) values.splice(1, 1)
    known.set(kind, values)
    if (!mayBeLogged.includes(kind) && value.length >= 16) secret.add(value)
  }

  const makeJwtOf = createJwtMaker(house, (text) => fill(text, plainly))

  function inHole(kind: string, detail: string): string {
    switch (kind) {
      case 'basic':
        return detail in credentials ? credentials[detail as 'kiosk'] : basic(detail, secrets.kiosk)
      case 'secret':
        return secrets[detail as 'kiosk'] ?? secrets.kiosk
      case 'jwt':
        return makeJwtOf(detail)
      case 'session':
        return house.sessionCookie
      case 'user_token':
        return house.userToken
      case 'certificate':
        return encodeURIComponent(house.certificate)
      case 'issuer':
        return house.url
      case 'new':
        return newSecret(12)
      default: {
        const first = current[kind]?.()
        const values = [...(first === undefined ? [] : [first]), ...(known.get(kind) ?? [])]
        return values[Number(detail) % values.length || 0] ?? 'none-yet'
      }
    }
  }

  function fill(text: string, encode: (value: string) => string): string {
    if (!text.includes('{{')) return text
    return text.replaceAll(/\{\{(\w+)(?::([^{}]*))?\}\}/g, (_, kind: string, detail = '') =>
      // A lone surrogate, which a response may contain, has no percent-encoding.
      encode(inHole(kind, detail).toWellFormed()),
    )
  }

  function learn({ status, headers, body, cookies }: Heard): void {
    const nonce = headers.get('dpop-nonce')
    if (nonce !== undefined) remember('nonce', nonce)
    const location = headers.get('location')
    if (location !== undefined) learnFromAddress(location)
    if (cookies.length > 0) remember('cookie', cookies.map((line) => line.split(';')[0]).join('; '))
    if (status >= 400 || body.length > 200_000) return
    for (const kind of learnt) {
      for (const [, value] of body.matchAll(new RegExp(`"${kind}":"([^"\\\\]+)"`, 'g'))) remember(kind, value!)
    }
    for (const [, id] of body.matchAll(/(?:"id":|name="id" value=)"([\w-]+)"/g)) remember('session_id', id!)
    const token = /name="form_token" value="([^"]+)"/.exec(body)?.[1]
    if (token !== undefined) remember('form_token', token)
  }

  function learnFromAddress(location: string): void {
    const uid = /\/sign-in\/([\w-]+)/.exec(location)?.[1]
    if (uid !== undefined) remember('uid', uid)
    for (const kind of ['code', 'state']) {
      const value = new RegExp(`[?&]${kind}=([\\w.~-]+)`).exec(location)?.[1]
      if (value !== undefined) remember(kind, value)
    }
  }

  return { fill, learn, isSecret: (word) => secret.has(word) || house.secrets.includes(word) }
}

/** Returns a function that makes the JWT of a placeholder; `fill` fills the placeholders in its header and claims. */
function createJwtMaker(house: House, fill: (text: string) => string) {
  function makeJwt({ key, header, claims, payload, spoiled }: Jwt): string {
    const now = Math.floor(house.clock.now() / 1000)
    const proofKey = { jwk: house.proofJwk }
    const said = payload ?? JSON.stringify(claims, (_, value) => alive(value, now))
    const head = JSON.stringify(header, (_, value) => (value === '$proofJwk' ? proofKey.jwk : alive(value, now)))
    const content = `${base64(head)}.${base64(said)}`
    return spoil(`${content}.${signatureOf(content, key)}`, spoiled)
  }

  function alive(value: unknown, now: number): unknown {
    if (typeof value !== 'string') return value
    const time = /^\$now([+-]\d+)?$/.exec(value)
    if (time !== null) return now + Number(time[1] ?? 0)
    if (value === '$new') return newSecret(12)
    if (value.startsWith('$hash:'))
      return createHash('sha256')
        .update(fill(value.slice(6)))
        .digest('base64url')
    return fill(value)
  }

  function signatureOf(content: string, key: Jwt['key']): string {
    if (key === 'none') return ''
    if (key === 'secret') return createHmac('sha256', secrets.kiosk).update(content).digest('base64url')
    return sign('sha256', Buffer.from(content), { key: house.keys[key], dsaEncoding: 'ieee-p1363' }).toString(
      'base64url',
    )
  }

  /** A placeholder may be truncated like any other text. */
  return (detail: string): string => {
    try {
      return makeJwt(JSON.parse(Buffer.from(detail, 'base64url').toString()) as Jwt)
    } catch {
      return detail
    }
  }
}

const plainly = (value: string) => value
const base64 = (text: string) => Buffer.from(text).toString('base64url')

function spoil(jwt: string, how: Jwt['spoiled']): string {
  const [header = '', claims = '', signature = ''] = jwt.split('.')
  switch (how) {
    case 'cut':
      return jwt.slice(0, Math.floor(jwt.length * 0.7))
    case 'dots':
      return `${header}..${claims}.${signature}.`
    case 'swapped':
      return `${claims}.${header}.${signature}`
    case 'bit':
      return `${header}.${claims}.${signature.slice(0, -2)}AA`
    case 'padded':
      return `${header}=.${claims}==.${signature}=`
    case 'huge':
      return `${header}.${claims}.${signature}${'A'.repeat(20_000)}`
    default:
      return jwt
  }
}
