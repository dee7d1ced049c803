/**
 * The DPoP proof of a call that oidc-provider answers. Anybody can make one, so it goes along only where it can be of use
 * and something else is known of the caller: its credentials, which oidc-provider looks at before the proof, or a token
 * or code that exists. oidc-provider then verifies its signature, and has it marked as used here, when the token it comes
 * with was found and is the client's.
 */

import { errors, Provider } from 'oidc-provider'
import { type Proofs, type ReadProof, type SentProof, usedBefore } from '../client/sender-constraint/dpop-proof.ts'
import { accessTokenOf } from '../platform/http/authorization.ts'
import type { Form } from '../platform/http/form.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import type { CurrentProvider } from './openid-provider.ts'

/** What is known of a call that brings a proof. */
export interface ForwardedCall {
  proof: SentProof
  authorization: string | undefined
  form: Form | undefined
}

/** The proof of a call, or that it does not go along; undefined if none was sent. */
export type ForwardedProof = ReadProof | 'withheld' | undefined

/** @throws {OAuthError} `invalid_dpop_proof`, `use_dpop_nonce`, `invalid_token` */
export type ReadProofToHandOver = (call: ForwardedCall) => Promise<ForwardedProof>

export function createReadProofToHandOver(provider: CurrentProvider, proofs: Proofs): ReadProofToHandOver {
  return async (call) => {
    if (call.proof.header === undefined) return undefined
    switch (routeOf(call.proof.path, provider())) {
      case 'userinfo':
        return proofOfResource(call, provider(), proofs)
      case 'token':
        return proofOfGrant(call, provider(), proofs)
      case 'pushed_authorization_request':
        return proofs.read(call.proof)
      default:
        return 'withheld'
    }
  }
}

/** Where oidc-provider looks at proofs. The last one exists only where an operator has switched it on. */
const routes = ['userinfo', 'token', 'pushed_authorization_request'] as const

function routeOf(path: string, provider: Provider): (typeof routes)[number] | undefined {
  return routes.find((route) => {
    try {
      return provider.pathFor(route, { mountPath: '' }) === path
    } catch {
      return false
    }
  })
}

/** Refused here, since oidc-provider would verify the proof first and look for the token then. */
async function proofOfResource(call: ForwardedCall, provider: Provider, proofs: Proofs): Promise<ForwardedProof> {
  const sent = accessTokenOf(call.authorization)
  if (sent === undefined) return 'withheld'
  const { scheme, token } = sent
  const proof = await proofs.read(call.proof, scheme === 'dpop' ? token : undefined)
  const found = await provider.AccessToken.find(token)
  if (found !== undefined && found.jkt === proof.key) return proof
  throw new OAuthError('invalid_token', 'the access token is not valid', {
    detail: found === undefined ? 'unknown or expired' : 'bound to another key, or to none',
    headers: { 'WWW-Authenticate': proofs.challenge('invalid_token') },
  })
}

/** A public client has nothing to show but what it brings: without it, its answer is the same as without the proof. */
async function proofOfGrant(call: ForwardedCall, provider: Provider, proofs: Proofs): Promise<ForwardedProof> {
  const proof = await proofs.read(call.proof)
  const showsCredentials =
    call.authorization !== undefined || call.form?.has('client_secret') || call.form?.has('client_assertion')
  return showsCredentials || (await bringsItsOwn(call.form, proof, provider)) ? proof : 'withheld'
}

async function bringsItsOwn(form: Form | undefined, { key }: ReadProof, provider: Provider): Promise<boolean> {
  const sought = sources[form?.get('grant_type') ?? '']
  const value = sought && form?.get(sought.parameter)
  if (value === undefined) return false
  const found = await sought!.find(provider, value)
  if (found === undefined || found.clientId !== form?.get('client_id')) return false
  return found.jkt === undefined || found.jkt === key
}

interface Source {
  parameter: string
  find(
    provider: Provider,
    value: string,
  ): Promise<{ clientId?: string | undefined; jkt?: string | undefined } | undefined>
}

/** What clients that cannot prove who they are may bring instead, by grant. */
const sources: Readonly<Record<string, Source | undefined>> = {
  authorization_code: {
    parameter: 'code',
    find: (provider, code) => provider.AuthorizationCode.find(code),
  },
  refresh_token: {
    parameter: 'refresh_token',
    find: (provider, token) => provider.RefreshToken.find(token),
  },
  'urn:ietf:params:oauth:grant-type:device_code': {
    parameter: 'device_code',
    find: (provider, code) => provider.DeviceCode.find(code),
  },
}

const handedOver = new WeakMap<object, Exclude<ForwardedProof, undefined>>()

/** Remembers what became of the proof of a call. */
export function rememberProof(request: object, proof: ForwardedProof): void {
  if (proof !== undefined) handedOver.set(request, proof)
}

export function wasProofWithheld(request: object): boolean {
  return handedOver.get(request) === 'withheld'
}

/**
 * oidc-provider asks whether a proof is new when all else about its call is known. It would look for the `jti` and mark it
 * then; of ten at once, several would get through.
 */
export function markProofsInOneStep(provider: Provider): void {
  const { ReplayDetection } = provider
  const unique = ReplayDetection.unique.bind(ReplayDetection)
  ReplayDetection.unique = async (issuer, jti, expiresAt) => {
    const request = Provider.ctx?.req
    const proof = request && handedOver.get(request)
    if (proof === undefined || proof === 'withheld' || proof.jti !== jti) return unique(issuer, jti, expiresAt)
    if (await proof.useOnce()) return true
    throw new errors.InvalidDpopProof(usedBefore)
  }
}
