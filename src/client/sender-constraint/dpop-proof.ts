/** DPoP (RFC 9449): with each call, a client proves possession of the key that its tokens are bound to. */
import { calculateJwkThumbprint, EmbeddedJWK, type JWK, type JWTPayload, jwtVerify } from 'jose'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint } from '../../platform/crypto.ts'
import { targetOf } from '../../platform/http/one-spelling.ts'
import type { Rule } from '../../platform/input-rule.ts'
import { isPlainJws } from '../../platform/jose/jws.ts'
import { isCostlyToVerify, privateMembers } from '../../platform/jose/key-members.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Nonces } from './dpop-nonces.ts'

/** The proof of a call as received, if there is one, and the properties of the call that the proof must match. */
export interface SentProof {
  header: string | string[] | undefined
  method: string
  /** The path of the called address, without the query. */
  path: string
}

export interface Proofs {
  /**
   * Reads a proof and makes all checks that are cheap. Any caller can make a proof that passes these checks. So this
   * function verifies no signature and writes nothing. `accept` does both, for a caller that has also sent credentials
   * or a token.
   *
   * @param accessToken the access token that came with the call. The proof must then contain the hash of this token,
   *   and errors are those of a protected resource (RFC 9449 §7.1)
   * @throws {OAuthError} `invalid_dpop_proof`, `use_dpop_nonce`; 400, or 401 with an access token
   */
  read(sent: SentProof, accessToken?: string): Promise<ReadProof>
  /** Reads and accepts the proof of an authenticated client. Resolves to the thumbprint (`jkt`) of the key. */
  keyOf(sent: SentProof): Promise<string>
  /** Returns the value of `WWW-Authenticate` for an error at a protected resource. */
  challenge(error: string): string
  /** Returns headers for the response: the nonce for the next proof, if nonces are required (RFC 9449 §8.2). */
  answerHeaders(sent: SentProof): Record<string, string>
}

/** A proof that passed the cheap checks. Its signature is not verified yet, and the proof is not marked as used yet. */
export interface ReadProof {
  /** The thumbprint (`jkt`) of the key that made the proof. */
  key: string
  jti: string
  /**
   * Verifies the signature and marks the proof as used. One statement marks it for all nodes, so only one of two
   * simultaneous uses is accepted. Call this function only for a caller that has also sent credentials, or a token that
   * is bound to `key`.
   *
   * @throws {OAuthError} `invalid_dpop_proof`
   */
  accept(): Promise<void>
  /** Marks the proof as used, after its signature was verified. Resolves to whether this was the first use. */
  useOnce(): Promise<boolean>
}

export interface ProofNeeds {
  /**
   * The addresses at which clients call this server: the issuer, and the address for calls with client certificates.
   */
  addresses: readonly string[]
  algorithms: readonly string[]
  nonces: Nonces
  /** Whether each proof must contain a nonce of this server. */
  requireNonce: boolean
  /**
   * Marks a proof as used, for all nodes, until `expiresAt` (milliseconds since 1970). Resolves to whether this was the
   * first use.
   */
  useOnce(key: string, jti: string, expiresAt: number): Promise<boolean>
  clock: Clock
}

/** The part of a call that is needed to read its proof. */
export interface CallWithProof {
  headers: Readonly<Record<string, string | string[] | undefined>>
  method?: string | undefined
  url?: string | undefined
}

/** Returns the proof of a call as received, unverified. */
export function proofSentWith({ headers, method = '', url = '' }: CallWithProof): SentProof {
  return { header: headers.dpop, method, path: targetOf(url).path }
}

/** Allowed difference between the client's clock and our clock, in seconds, in both directions. */
const skewSeconds = 60
/**
 * Milliseconds for which a used proof is stored. This is the longest time for which a nonce is valid. A proof without a
 * nonce is valid for a shorter time, at most 2 × `skewSeconds`.
 */
const storedForMs = 300_000
/** Maximum length of a proof, in characters. A longer proof is not decoded. */
const longestProof = 8192
const longestJti = 256

/**
 * Returns the functions that read and accept the DPoP proofs of calls. They refuse every proof that oidc-provider
 * refuses. So a client never gets tokens that it then cannot use at the endpoints of oidc-provider. Examples of refused
 * proofs are those whose `jwk` has a member that is null, a `use` that is not `sig`, or `key_ops` that also allow to
 * sign.
 */
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
    const useOnce = () => needs.useOnce(key, jti, needs.clock.now() + storedForMs)
    return {
      key,
      jti,
      useOnce,
      async accept() {
        if (!(await isSignedByItsKey(proof, needs.clock))) throw refused(notVerified)
        // The proof is marked as used after the signature is verified, so that only the holder of the key can do this.
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
/** The error message for a proof that was used before. */
export const usedBefore = 'the proof: this jti was used before'

type ProofRefusal = 'invalid_dpop_proof' | 'use_dpop_nonce'

/** The call and the settings of the server that a proof is checked against. */
interface ProofContext {
  call: SentProof & { accessToken: string | undefined }
  needs: ProofNeeds
}

/** A check of a proof. `settings` lists the header members and the claims of the proof that the check reads. */
interface ProofRule extends Rule<Proof, ProofContext> {
  /** The code of the error; by default `invalid_dpop_proof`. */
  error?: ProofRefusal
  message: string
}

/**
 * The checks of RFC 9449 §4.3, except for four that are made elsewhere. `read` first checks that there is exactly one
 * header, and that it contains a JWT. `accept` later checks the signature and the single use. No error message repeats
 * anything from the proof.
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
    message: `iat must be a number, at most ${skewSeconds} seconds away from now`,
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

/** Whether there is exactly one header. Node joins repeated headers with a comma, which a JWT never contains. */
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

function isPublicKey(jwk: unknown): boolean {
  if (typeof jwk !== 'object' || jwk === null) return false
  const { kty } = jwk as JWK
  if (typeof kty !== 'string' || !['EC', 'RSA', 'OKP'].includes(kty) || isCostlyToVerify({ ...jwk })) return false
  return !privateMembers.some((name) => name in jwk)
}

/** Resolves to the thumbprint of the key, or to undefined if `jwk` is not a valid key. */
async function thumbprintOf(jwk: JWK): Promise<string | undefined> {
  try {
    return await calculateJwkThumbprint(jwk)
  } catch {
    return undefined
  }
}

async function isSignedByItsKey({ jwt, header }: Proof, clock: Clock): Promise<boolean> {
  try {
    const algorithms = [header.alg as string]
    await jwtVerify(jwt, EmbeddedJWK, { algorithms, clockTolerance: skewSeconds, currentDate: new Date(clock.now()) })
    return true
  } catch {
    return false
  }
}

/**
 * Whether `htu` is the called address. Both addresses are compared without query and fragment. Before that, the letter
 * case of the host, the default port, and `.` and `..` in the path are normalised (RFC 9449 §4.3).
 */
function isAddress(htu: unknown, path: string, addresses: readonly string[]): boolean {
  if (typeof htu !== 'string' || !/^[\x21-\x5b\x5d-\x7e]+$/.test(htu) || !URL.canParse(htu)) return false
  const called = new URL(htu)
  called.search = ''
  called.hash = ''
  // If the request target is neither a path nor an http URL (RFC 9112 §3.2), `address + path` is not an address of this
  // server, and nothing matches.
  return addresses.some((address) => URL.parse(address + path)?.href === called.href)
}

function isShort(jti: unknown): boolean {
  return typeof jti === 'string' && jti.length >= 1 && jti.length <= longestJti
}

/**
 * Whether the proof was made recently. If the proof contains our nonce, the nonce shows the age of the proof, so the
 * client's clock does not matter (RFC 9449 §4.3, item 11).
 */
function isNow({ iat, nonce }: JWTPayload, now: number): boolean {
  return Number.isFinite(iat) && (nonce !== undefined || Math.abs(now - iat!) <= skewSeconds)
}

/** Whether `exp` and `nbf` allow the use of the proof now. Each of them is optional. */
function isInTime({ exp, nbf }: JWTPayload, now: number): boolean {
  if (![exp, nbf].every((time) => time === undefined || Number.isFinite(time))) return false
  return (exp === undefined || exp > now - skewSeconds) && (nbf === undefined || nbf <= now + skewSeconds)
}
