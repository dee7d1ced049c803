/**
 * Counts the calls that are forwarded to oidc-provider, for load shedding. A call counts as that of an unproven caller
 * until its client or access token is verified. Then it counts for its client, which may take only its fair share of
 * the slots. So neither one client nor unproven callers can take the slots that other clients need.
 */
import type { ClientCertificate } from '../client/certificate/client-certificate.ts'
import { accessTokenOf } from '../platform/http/authorization.ts'
import type { Form } from '../platform/http/form.ts'
import type { LoadShedding, Slot } from '../platform/http/load-shedding.ts'
import type { ForwardedClient } from './oidc-call-client.ts'
import { showsCredentials } from './oidc-call-dpop-proof.ts'
import { discoveryPaths, providerPath } from './oidc-call-endpoint.ts'
import type { CurrentProvider } from './openid-provider.ts'

export type CallCounting = Pick<LoadShedding, 'withFairShare' | 'whileUnproven'>

/** The properties of a forwarded call that determine for which client or user the call is counted. */
export interface CountedCall {
  authorization: string | undefined
  form: Form | undefined
  certificate: ClientCertificate | undefined
  slot: Slot | undefined
  /**
   * The id of a user who has signed in before, found by a cookie, token or code of the call. Undefined if no user is
   * found.
   */
  returning: string | undefined
}

/** Finds a user who has signed in before, by a cookie, token or code of a call. Reads nothing from the database. */
export interface ReturningUsers {
  /** @param cookies the `Cookie` header */
  byCookies(cookies: string | undefined): string | undefined
  byToken(token: string): string | undefined
}

/** The members of a form that may contain a token or a code of a user. */
const tokenMembers = ['refresh_token', 'code', 'token', 'access_token']

/**
 * Returns the user whose token or code a call contains. If the call contains no token or code, returns the user who has
 * signed in with the browser.
 */
export function returningUserOf(
  { authorization, form, cookies }: Pick<CountedCall, 'authorization' | 'form'> & { cookies: string | undefined },
  users: ReturningUsers,
): string | undefined {
  const tokens = [accessTokenOf(authorization)?.token, ...tokenMembers.map((name) => form?.get(name))]
  const sent = tokens.find((token) => token !== undefined)
  return sent === undefined ? users.byCookies(cookies) : users.byToken(sent)
}

/** The steps of a call to an endpoint at which clients authenticate, in this order. */
export interface ClientWork<P, T> {
  readProof(): Promise<P>
  authenticate(): Promise<ForwardedClient>
  answer(proof: P, client: ForwardedClient): Promise<T>
}

/**
 * Answers the call of a client. Once the client is authenticated, the call counts for this client. A caller that only
 * sends the `client_id` of a public client counts as unproven during the whole call.
 */
export async function workForClient<P, T>(
  call: CountedCall,
  { withFairShare, whileUnproven }: CallCounting,
  { readProof, authenticate, answer }: ClientWork<P, T>,
): Promise<T> {
  const { slot, form, certificate, returning } = call
  const unproven = <R>(work: () => Promise<R>) => whileUnproven(form?.get('client_id') ?? '', slot, work, returning)
  const isShown = showsCredentials(call)
  if (!isShown && certificate === undefined) {
    return unproven(async () => answer(await readProof(), await authenticate()))
  }
  // A call with only a certificate counts as unproven while its proof is read. Any caller can make a certificate, and
  // can cause a look-up with a code that does not exist.
  const proof = await (isShown ? readProof() : unproven(readProof))
  const client = await authenticate()
  const work = () => answer(proof, client)
  return client.isPublic ? unproven(work) : withFairShare(client.id, slot, work)
}

/** Returns whether a call is answered from memory: a CORS preflight, the metadata document, or the key set. */
export const readsNothing = (method: string, path: string, provider: CurrentProvider) =>
  method === 'OPTIONS' || discoveryPaths.includes(path) || providerPath(provider(), 'jwks') === path

/** Returns whether a path is that of the userinfo endpoint. */
export const isUserinfo = (path: string, provider: CurrentProvider) => providerPath(provider(), 'userinfo') === path

/**
 * Answers a call with an access token. Until the token is found, the caller counts as unproven. Then the call counts
 * for the client that the token was issued to. If there is no such token, the caller counts as unproven during the
 * whole call.
 */
export async function workForToken<P, T>(
  { authorization, form, slot, returning }: CountedCall,
  provider: CurrentProvider,
  { withFairShare, whileUnproven }: CallCounting,
  { readProof, answer }: { readProof(): Promise<P>; answer(proof: P): Promise<T> },
): Promise<T> {
  const token = accessTokenOf(authorization)?.token ?? form?.get('access_token')
  const find = async () => {
    const proof = await readProof()
    const found = token === undefined ? undefined : await provider().AccessToken.find(token)
    if (found?.clientId === undefined) return { result: await answer(proof) }
    return { client: found.clientId, proof }
  }
  const done = await whileUnproven('', slot, find, returning)
  return 'result' in done ? done.result : withFairShare(done.client, slot, () => answer(done.proof))
}
