/** DPoP (RFC 9449): with each call a client proves anew that it holds the key its tokens are bound to. */
import { calculateJwkThumbprint, importJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint } from '../../platform/crypto.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { isCostly } from '../../platform/jose/key-members.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Rule } from '../../platform/rule.ts'
import type { Nonces } from './dpop-nonces.ts'

/** A proof as it was sent, if one was, and the call it has to be about. */
export interface SentProof {
  header: string | string[] | undefined
  method: string
  /** Of the address that was called, without its query. */
  path: string
}

export interface Proofs {
  /**
   * All checks that cost next to nothing. Anybody can make a proof that passes them: nothing is written and no signature
   * is verified before more is known of the caller.
   *
   * @param accessToken the token that came with the call: the proof has to name it, and what is refused is refused as at
   *   a protected resource (RFC 9449 §7.1)
   * @throws {OAuthError} `invalid_dpop_proof`, `use_dpop_nonce`; 400, or 401 where there is an access token
   */
  read(sent: SentProof, accessToken?: string): Promise<ReadProof>
  /** The thumbprint (`jkt`) of the key whose holder sent this call: reads the proof and accepts it. For known clients. */
  keyOf(sent: SentProof): Promise<string>
  /** `WWW-Authenticate` for a refusal at a protected resource. */
  challenge(error: string): string
  /** What an answer says beside its body: the nonce for the next proof, where one has to be in it (RFC 9449 §8.2). */
  answerHeaders(sent: SentProof): Record<string, string>
}

/** A proof in which everything is as it should be, but for the signature, which was not looked at yet. */
export interface ReadProof {
  /** The thumbprint (`jkt`) of the key it names. */
  key: string
  jti: string
  /**
   * Verifies the signature, and marks the proof as used: for all nodes, in one statement, so that of two at once one is
   * accepted. Only for a caller that is known by something else, too: its credentials, or a token that is bound to `key`.
   *
   * @throws {OAuthError} `invalid_dpop_proof`
   */
  accept(): Promise<void>
  /** Marks it as used, where its signature was verified already. Returns whether this was the first time. */
  useOnce(): Promise<boolean>
}

export interface ProofNeeds {
  /** Under which names clients call us: the issuer, and where they find us with certificates (DP-12). */
  addresses: readonly string[]
  algorithms: readonly string[]
  nonces: Nonces
  /** Whether each proof has to hold a nonce of ours. */
  requireNonce: boolean
  /** Marks a proof as used, for all nodes, until nobody would accept it anyway. Answers whether this was the first time. */
  useOnce(key: string, jti: string, expiresAt: number): Promise<boolean>
  clock: Clock
}

/** As much of a call as is needed to see its proof. */
export interface CallWithProof {
  headers: Readonly<Record<string, string | string[] | undefined>>
  method?: string | undefined
  url?: string | undefined
}

export function proofSentWith({ headers, method = '', url = '' }: CallWithProof): SentProof {
  return { header: headers.dpop, method, path: url.split('?')[0]! }
}

/** Seconds between the clock of a client and ours, in both directions. */
const skew = 60
/** Milliseconds a proof is remembered: as long as the nonce in it could be good, which is longer than the skew. */
const remembered = 300_000
/** Characters; a longer proof is not even decoded (JO-4). */
const longestProof = 8192
const longestJti = 256

export function createProofs(needs: ProofNeeds): Proofs {
  const challenge = (error: string) => `DPoP realm="doorbell", error="${error}", algs="${needs.algorithms.join(' ')}"`

  function refuse(code: ProofRefusal, hint: string, atResource: boolean): OAuthError {
    return new OAuthError(code, hint, {
      ...(atResource && { status: 401 }),
      headers: {
        ...(code === 'use_dpop_nonce' && { 'DPoP-Nonce': needs.nonces.next() }),
        ...(atResource && { 'WWW-Authenticate': challenge(code) }),
      },
    })
  }

  async function read(sent: SentProof, accessToken?: string): Promise<ReadProof> {
    const refused = (says: string, code: ProofRefusal = 'invalid_dpop_proof') =>
      refuse(code, says, accessToken !== undefined)
    if (!isOneHeader(sent.header)) throw refused('send exactly one DPoP header')
    const proof = readProof(sent.header)
    if (proof === undefined) throw refused('the proof is not a JWT')
    const context = { call: { ...sent, accessToken }, needs }
    for (const { requires, error, message } of rules) {
      if (!requires(proof, context)) throw refused(`the proof: ${message}`, error)
    }
    const key = await thumbprintOf(proof.header.jwk as JWK)
    if (key === undefined) throw refused(notVerified)
    const jti = proof.claims.jti as string
    const useOnce = () => needs.useOnce(key, jti, needs.clock.now() + remembered)
    return {
      key,
      jti,
      useOnce,
      async accept() {
        if (!(await isSignedByItsKey(proof, needs.clock))) throw refused(notVerified)
        // Last, so that nobody but the holder of the key can use it up.
        if (!(await useOnce())) throw refused(usedBefore)
      },
    }
  }

  return {
    challenge,
    answerHeaders: ({ header }) =>
      header !== undefined && needs.requireNonce ? { 'DPoP-Nonce': needs.nonces.next() } : {},
    read,
    async keyOf(sent) {
      const proof = await read(sent)
      await proof.accept()
      return proof.key
    },
  }
}

const notVerified = 'the proof: it cannot be verified with its jwk'
/** What is said of a proof that comes a second time, wherever that is noticed. */
export const usedBefore = 'the proof: this jti was used before'

type ProofRefusal = 'invalid_dpop_proof' | 'use_dpop_nonce'

/** What a proof is checked against: the call it was sent with, and what this server allows. */
interface ProofContext {
  call: SentProof & { accessToken: string | undefined }
  needs: ProofNeeds
}

/** `settings` are members of the proof's header and claims. */
interface ProofRule extends Rule<Proof, ProofContext> {
  /** By default `invalid_dpop_proof`. */
  error?: ProofRefusal
  message: string
}

/**
 * RFC 9449 §4.3, after "one header" and "one JWT", and before its signature and "used once". Nothing said comes from the
 * proof.
 */
const rules: readonly ProofRule[] = [
  {
    settings: ['typ'],
    requires: ({ header }) => header.typ === 'dpop+jwt',
    message: 'typ must be dpop+jwt',
  },
  {
    settings: ['alg'],
    requires: ({ header }, { needs }) => needs.algorithms.includes(header.alg as string),
    message: 'alg must be one of dpop_signing_alg_values_supported',
  },
  {
    settings: ['jwk'],
    requires: ({ header }) => isPublicKey(header.jwk),
    message: 'jwk must contain a public key only',
  },
  {
    settings: ['htm'],
    requires: ({ claims }, { call }) => claims.htm === call.method,
    message: 'htm must be the method of this request',
  },
  {
    settings: ['htu'],
    requires: ({ claims }, { call, needs }) => isAddress(claims.htu, call.path, needs.addresses),
    message: 'htu must be the address of this request',
  },
  {
    settings: ['jti'],
    requires: ({ claims }) => isShort(claims.jti),
    message: `jti must be a string of 1 to ${longestJti} characters`,
  },
  {
    settings: ['ath'],
    requires: ({ claims }, { call: { accessToken } }) =>
      accessToken === undefined || claims.ath === fingerprint(accessToken),
    message: 'ath must be the hash of the access token',
  },
  {
    settings: ['nonce'],
    requires: ({ claims }, { needs }) =>
      claims.nonce === undefined ? !needs.requireNonce : needs.nonces.isGood(claims.nonce),
    message: 'nonce must be the one in DPoP-Nonce',
    error: 'use_dpop_nonce',
  },
  {
    settings: ['iat'],
    requires: ({ claims }, { needs }) => isNow(claims, Math.floor(needs.clock.now() / 1000)),
    message: `iat must be a number, at most ${skew} seconds away from now`,
  },
  {
    settings: ['exp', 'nbf'],
    requires: ({ claims }, { needs }) => isInTime(claims, Math.floor(needs.clock.now() / 1000)),
    message: 'exp and nbf, if present, must be valid now',
  },
]

interface Proof {
  jwt: string
  header: Record<string, unknown>
  claims: Record<string, unknown>
}

/** Node joins what is sent several times. */
function isOneHeader(header: SentProof['header']): header is string {
  return typeof header === 'string' && !header.includes(',')
}

function readProof(jwt: string): Proof | undefined {
  if (jwt.length > longestProof || !isPlainJws(jwt)) return undefined
  const [header, claims] = jwt.split('.').slice(0, 2).map(readObject)
  return header && claims && { jwt, header, claims }
}

function readObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : undefined
  } catch {
    return undefined
  }
}

const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

function isPublicKey(jwk: unknown): boolean {
  if (typeof jwk !== 'object' || jwk === null) return false
  const { kty } = jwk as JWK
  if (typeof kty !== 'string' || !['EC', 'RSA', 'OKP'].includes(kty) || isCostly({ ...jwk })) return false
  return !privateMembers.some((name) => name in jwk)
}

/** Undefined if it is no key. */
async function thumbprintOf(jwk: JWK): Promise<string | undefined> {
  try {
    return await calculateJwkThumbprint(jwk)
  } catch {
    return undefined
  }
}

async function isSignedByItsKey({ jwt, header }: Proof, clock: Clock): Promise<boolean> {
  try {
    const alg = header.alg as string
    const key = await importJWK(header.jwk as JWK, alg)
    await jwtVerify(jwt, key, { algorithms: [alg], clockTolerance: skew, currentDate: new Date(clock.now()) })
    return true
  } catch {
    return false
  }
}

/** Without query and fragment, and after what every URL parser normalises: letters of the host, its usual port, dots. */
function isAddress(htu: unknown, path: string, addresses: readonly string[]): boolean {
  if (typeof htu !== 'string' || !/^[\x21-\x5b\x5d-\x7e]+$/.test(htu) || !URL.canParse(htu)) return false
  const called = new URL(htu)
  called.search = ''
  called.hash = ''
  // A request may name a whole address instead of a path (RFC 9112 §3.2.2); added to another, it is none.
  return addresses.some((address) => URL.parse(address + path)?.href === called.href)
}

function isShort(jti: unknown): boolean {
  return typeof jti === 'string' && jti.length >= 1 && jti.length <= longestJti
}

/** Our nonce tells when a proof was made, and a till's clock may be wrong (RFC 9449 §4.3, item 11). */
function isNow({ iat, nonce }: JWTPayload, now: number): boolean {
  return Number.isFinite(iat) && (nonce !== undefined || Math.abs(now - iat!) <= skew)
}

/** A proof needs no `exp` and no `nbf`. */
function isInTime({ exp, nbf }: JWTPayload, now: number): boolean {
  if (![exp, nbf].every((time) => time === undefined || Number.isFinite(time))) return false
  return (exp === undefined || exp > now - skew) && (nbf === undefined || nbf <= now + skew)
}
