/** A user's history in the device API: lists the decisions, revokes an approval, and blocks or unblocks a client. */
import type { FastifyInstance } from 'fastify'
import type { DetailTypes } from '../../authorization-details/detail-types.ts'
import type { RequestStore } from '../../ciba/authentication-request/authentication-request-store.ts'
import type { BlockClient } from '../../ciba/decision/block-client.ts'
import type { DecisionStore, HistoryEntry } from '../../ciba/decision/consent-history-store.ts'
import type { RevokeApproval } from '../../ciba/decision/revoke-approval.ts'
import type { BlockedClientStore } from '../../ciba/request-limits/blocked-client-store.ts'
import type { ClientStore } from '../../client/client-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { readQuery } from '../../platform/http/form.ts'
import { chooseLanguage, type Language } from '../../platform/i18n/texts.ts'
import type { Log } from '../../platform/log.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import { findClients, showClient } from '../shown-client.ts'
import { describeEach, detailsAsJson } from './described-rows.ts'
import { type IdentifyCaller, sessionEnded } from './device-caller.ts'
import { needed, userRoute } from './user-route.ts'

export interface ActivityNeeds {
  identifyCaller: IdentifyCaller
  requests: RequestStore
  decisions: DecisionStore
  revokeApproval: RevokeApproval
  blockClient: BlockClient
  clients: ClientStore
  blockedClients: BlockedClientStore
  /** The declared types of authorization details, which describe details to users. */
  details: DetailTypes
  clock: Clock
  audit: Audit
  log: Log
}

export interface ActivityPaths {
  activity: string
  revoke: string
  block: string
}

export function activityEndpoint(app: FastifyInstance, paths: ActivityPaths, needs: ActivityNeeds): void {
  userRoute(app, paths.activity, needs.identifyCaller, {
    async GET({ caller: { userId }, request }) {
      const language = chooseLanguage(readQuery(request.url).get('ui_locales'), request.headers['accept-language'])
      return { activity: await activityOf(userId, language, needs) }
    },
  })

  userRoute(app, paths.revoke, needs.identifyCaller, {
    async POST({ caller: { userId, tokenHash }, form, request: { ip: address } }) {
      const requestId = needed(form, 'request_id')
      const request = await needs.requests.findForUser(userId, { id: requestId })
      if (request === undefined) throw new OAuthError('not_found', 'this user has no such request')
      const revoked = await needs.revokeApproval({ request, tokenHash, address })
      if (revoked === undefined) throw sessionEnded()
      needs.audit({ event: 'request.revoked', request: requestId, client: request.clientId, user: userId, address })
      return { request_id: requestId, revoked }
    },
  })

  userRoute(app, paths.block, needs.identifyCaller, {
    async POST({ caller: { userId, tokenHash }, form, request: { ip: address } }) {
      const clientId = needed(form, 'client_id')
      const blocked = readBlocked(needed(form, 'blocked'))
      if ((await needs.clients.find(clientId)) === undefined)
        throw new OAuthError('not_found', 'there is no such client')
      const done = blocked
        ? await needs.blockClient({ userId, clientId, tokenHash, address })
        : await needs.blockedClients.unblock({ userId, clientId, tokenHash })
      if (!done) throw sessionEnded()
      needs.audit({ event: blocked ? 'client.blocked' : 'client.unblocked', user: userId, client: clientId, address })
      return { client_id: clientId, blocked }
    },
  })
}

async function activityOf(userId: string, language: Language, needs: ActivityNeeds) {
  const { decisions, clients, blockedClients, details, clock, log } = needs
  const history = await decisions.listForUser(userId, clock.now())
  const shown = await findClients(history, clients)
  const blocked = await blockedClients.blockedBy(userId)
  const stored = (entry: HistoryEntry) => ({
    request_id: entry.requestId,
    outcome: entry.outcome,
    reported: entry.reported,
    decided_at: Math.floor(entry.decidedAt / 1000),
    scope: entry.scope,
    claims: entry.claims,
    binding_message: entry.bindingMessage,
    authorization_details: entry.authorizationDetails,
    resource: entry.resources,
    in_use: entry.inUse,
    client_blocked: blocked.has(entry.clientId),
  })
  return describeEach(history, {
    describe: (entry) => ({
      ...stored(entry),
      authorization_details_text: entry.authorizationDetails && details.describe(entry.authorizationDetails, language),
      client: showClient(entry.clientId, shown.get(entry.clientId)),
    }),
    describeLess: (entry) => ({
      ...stored(entry),
      authorization_details_text: detailsAsJson(entry.authorizationDetails),
      client: { client_id: entry.clientId },
    }),
    idOf: ({ requestId }) => requestId,
    log,
  })
}

/** Accepts only `true` and `false`, so that a typing error does not unblock a client. */
function readBlocked(blocked: string): boolean {
  if (blocked !== 'true' && blocked !== 'false') {
    throw new OAuthError('invalid_request', 'blocked must be true or false')
  }
  return blocked === 'true'
}
