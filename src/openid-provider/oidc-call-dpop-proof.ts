/**
 * Decides whether the DPoP proof of a call is forwarded to oidc-provider. Every caller can make proofs, and verifying a
 * signature takes time. So a proof is forwarded only to endpoints that need it, and only if the caller has also sent
 * client credentials, or a code or token that exists. In all other cases the proof is withheld, which means that
 * oidc-provider gets the call without the header `DPoP`.
 *
 * oidc-provider checks credentials first, and then verifies the signature of the proof. The last check of oidc-provider
 * marks the proof as used (`markProofsInOneStep`).
 */

import { errors, Provider } from 'oidc-provider'
import { type Proofs, type ReadProof, type SentProof, usedBefore } from '../client/sender-constraint/dpop-proof.ts'
import { accessTokenOf } from '../platform/http/authorization.ts'
import type { Form } from '../platform/http/form.ts'
import { OAuthError } from '../platform/oauth-error.ts'
import { providerPath } from './oidc-call-endpoint.ts'
import type { CurrentProvider } from './openid-provider.ts'

/** A call, with its proof if it has one. */
export interface ForwardedCall {
  proof: SentProof
  authorization: string | undefined
  form: Form | undefined
}

/**
 * The proof of a call; `withheld` if oidc-provider gets the call without its proof; undefined if the caller sent no
 * proof.
 */
export type ForwardedProof = ReadProof | 'withheld' | undefined

/**
 * Resolves to the proof of a call, or to `withheld` if the proof must not be forwarded.
 *
 * @throws {OAuthError} `invalid_dpop_proof`, `use_dpop_nonce`, `invalid_token`
 */
export type ReadForwardedProof = (call: ForwardedCall) => Promise<ForwardedProof>

export function createReadForwardedProof(provider: CurrentProvider, proofs: Proofs): ReadForwardedProof {
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

/** The routes at which oidc-provider reads proofs. The last route exists only if an operator has enabled it. */
const routes = ['userinfo', 'token', 'pushed_authorization_request'] as const

function routeOf(path: string, provider: Provider): (typeof routes)[number] | undefined {
  return routes.find((route) => providerPath(provider, route) === path)
}

/**
 * For the userinfo endpoint: resolves to the proof if the access token of the call exists and is bound to the key of
 * the proof. If the call has no access token, the proof is withheld. The token is looked up here, because oidc-provider
 * would verify the signature of the proof before it looks up the token.
 */
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

/**
 * For the token endpoint. oidc-provider checks the credentials of a confidential client before it verifies the
 * signature of the proof. A public client sends no credentials, only its code or token, so this function looks up the
 * code or token. If there is no valid code or token, the proof is withheld. oidc-provider then verifies no signature,
 * and responds in the same way as to a call without a proof.
 */
async function proofOfGrant(call: ForwardedCall, provider: Provider, proofs: Proofs): Promise<ForwardedProof> {
  const proof = await proofs.read(call.proof)
  return showsCredentials(call) || (await hasValidCodeOrToken(call.form, proof, provider)) ? proof : 'withheld'
}

/**
 * Whether the call contains client credentials. A client certificate does not count, because any caller can make one.
 */
export function showsCredentials({ authorization, form }: Pick<ForwardedCall, 'authorization' | 'form'>): boolean {
  return authorization !== undefined || form?.has('client_secret') === true || form?.has('client_assertion') === true
}

async function hasValidCodeOrToken(form: Form | undefined, { key }: ReadProof, provider: Provider): Promise<boolean> {
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

/**
 * What a public client sends instead of credentials, for each grant type: the parameter with the code or token, and the
 * function that finds the code or token.
 */
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

const forwarded = new WeakMap<object, Exclude<ForwardedProof, undefined>>()

/** Remembers the proof of a forwarded call, or that the proof was withheld. */
export function rememberProof(request: object, proof: ForwardedProof): void {
  if (proof !== undefined) forwarded.set(request, proof)
}

/** Whether the call came with a proof that was withheld from oidc-provider. */
export function wasProofWithheld(request: object): boolean {
  return forwarded.get(request) === 'withheld'
}

/**
 * Replaces the replay check of oidc-provider, which is the last check of a call. The replacement marks the proof as
 * used in one SQL statement. oidc-provider's own check reads the `jti` first and writes it later, so several
 * simultaneous calls with the same proof could pass.
 */
export function markProofsInOneStep(provider: Provider): void {
  const { ReplayDetection } = provider
  const unique = ReplayDetection.unique.bind(ReplayDetection)
  ReplayDetection.unique = async (issuer, jti, expiresAt) => {
    const request = Provider.ctx?.req
    const proof = request && forwarded.get(request)
    if (proof === undefined || proof === 'withheld' || proof.jti !== jti) return unique(issuer, jti, expiresAt)
    if (await proof.useOnce()) return true
    throw new errors.InvalidDpopProof(usedBefore)
  }
}
