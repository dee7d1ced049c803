/** Why client authentication failed at an endpoint of oidc-provider, in the same cases and words as at our own endpoints. */
import type { EventEmitter } from 'node:events'
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { authenticationFailed, failedBecause } from '../client/authentication/claim.ts'
import { inOAuthCharacters } from '../platform/http/answer.ts'

/** Resolves to why an assertion is refused, or to undefined if its signature cannot be verified. */
export type ExplainAssertion = (assertion: string, clientId: string) => Promise<string | undefined>

/** The events that report an error of a call that a client has to authenticate. */
const events = ['grant', 'introspection', 'revocation', 'pushed_authorization_request', 'device_authorization']

/**
 * Adds the reason to responses to failed client authentication: always if the client's signature was verified, in
 * development also otherwise.
 */
export function explainClientAuthentication(
  provider: Provider,
  { development, explainAssertion }: { development: boolean; explainAssertion: ExplainAssertion },
): void {
  const details = new WeakMap<object, string>()
  // The types of oidc-provider accept each of these event names, but not a union of them.
  const emitter: EventEmitter = provider
  for (const event of events) {
    emitter.on(`${event}.error`, (ctx: object, error: { error_detail?: string }) => {
      if (error.error_detail !== undefined) details.set(ctx, error.error_detail)
    })
  }
  provider.use(async (ctx, next) => {
    await next()
    const { error, error_description: description } = (ctx.body ?? {}) as Record<string, unknown>
    if (error !== 'invalid_client' || description !== authenticationFailed) return
    const { oidc } = ctx as KoaContextWithOIDC
    const reason =
      (await reasonOfAssertion(oidc, explainAssertion)) ??
      (development ? detailOf(ctx as KoaContextWithOIDC, details.get(ctx)) : undefined)
    if (reason !== undefined) ctx.body = { error, error_description: inOAuthCharacters(failedBecause(reason)) }
  })
}

async function reasonOfAssertion(
  { client, params }: KoaContextWithOIDC['oidc'],
  explainAssertion: ExplainAssertion,
): Promise<string | undefined> {
  const assertion = params?.client_assertion
  if (client === undefined || typeof assertion !== 'string') return undefined
  return explainAssertion(assertion, client.clientId)
}

/** Returns oidc-provider's detail of the error. It does not name the methods, so they are added. */
function detailOf(ctx: KoaContextWithOIDC, detail: string | undefined): string | undefined {
  const { client } = ctx.oidc
  if (client === undefined || detail?.includes('authentication mechanism does not match') !== true) return detail
  return `${client.clientId}: registered for ${client.clientAuthMethod}, called as ${methodOf(ctx)}`
}

function methodOf({ headers, oidc: { params } }: KoaContextWithOIDC): string {
  if (headers.authorization !== undefined) return 'client_secret_basic'
  if (params?.client_secret !== undefined) return 'client_secret_post'
  return params?.client_assertion === undefined ? 'none' : 'private_key_jwt or client_secret_jwt'
}
