/**
 * Writes events of oidc-provider to the log and the audit: errors, and the tokens that oidc-provider issues for its own
 * grant types.
 */
import type { EventEmitter } from 'node:events'
import type { Provider } from 'oidc-provider'
import type { Audit } from '../platform/audit.ts'
import { malformed } from '../platform/http/answer.ts'
import { isUnstorableForDatabase } from '../platform/http/outside-text.ts'
import { isUnavailable, unavailable } from '../platform/http/unavailable.ts'
import type { Log } from '../platform/log.ts'

const clientErrors = [
  'authorization',
  'grant',
  'introspection',
  'revocation',
  'userinfo',
  'jwks',
  'end_session',
] as const

const lostConnection = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'ECANCELED'])

/**
 * Returns whether an error is that of the connection: its caller has closed it, or has sent something on it that is no
 * HTTP, so that Node closes it while the response to an earlier call is being made.
 */
function isOfConnection({ code = '' }: { code?: string }): boolean {
  return lostConnection.has(code) || code.startsWith('HPE_')
}

/** Logs errors, and turns failures of the database into the same responses as at our own endpoints. */
export function reportErrors(provider: Provider, log: Log): void {
  for (const what of clientErrors) {
    // The types of oidc-provider accept each of these event names, but not a union of them.
    const emitter: EventEmitter = provider
    emitter.on(`${what}.error`, (_ctx: unknown, error: Error & { error_detail?: string }) => {
      log.info({ event: 'oidc.refused', endpoint: what, code: error.message, detail: error.error_detail })
    })
  }
  // Without this listener, Koa would write errors to standard error instead of the log. For each caller that closes its
  // connection before the response, it would write ten lines.
  const koa: EventEmitter = provider
  koa.on('error', (error: Error & { code?: string }) => {
    if (isOfConnection(error)) log.debug({ event: 'oidc.hung_up', error })
    else log.error({ event: 'oidc.failed', error })
  })
  provider.on('server_error', (ctx, error) => {
    log.error({ event: 'oidc.failed', error })
    if (isUnstorableForDatabase(error)) {
      const { status, code, hint } = malformed()
      ctx.status = status
      if (typeof ctx.body === 'object') ctx.body = { error: code, error_description: hint }
    }
    if (!isUnavailable(error)) return
    ctx.status = unavailable.status
    ctx.set(unavailable.headers)
    // Only a JSON body is replaced, not an HTML page.
    if (typeof ctx.body === 'object') ctx.body = unavailable.body
  })
}

/** Audits tokens that are issued for authorization codes and refresh tokens. */
export function reportTokens(provider: Provider, audit: Audit): void {
  provider.on('grant.success', ({ oidc }) => {
    const { client, params, entities } = oidc
    const by = String(params?.grant_type)
    audit({ event: 'tokens.issued', client: client?.clientId, user: entities.Account?.accountId, by })
  })
}
