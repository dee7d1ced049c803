/**
 * Builds the parts that handle authentication requests. A client sends a request, and the user decides it. The client
 * then polls for the result, or the server delivers the result to the client. A request that is not decided expires.
 */
import type { FastifyInstance } from 'fastify'
import { noticesFor } from '../authentication-device/channels/device-notice.ts'
import { createAcceptingShares } from '../ciba/backchannel-authentication/accepting-shares.ts'
import { backchannelEndpoint } from '../ciba/backchannel-authentication/backchannel-authentication-endpoint.ts'
import { createReadSignedRequest } from '../ciba/backchannel-authentication/signed-request.ts'
import { createNotifyClient } from '../ciba/client-notification/client-notification.ts'
import { createTakeBack, createTakeBackForPoll } from '../ciba/client-notification/take-back.ts'
import { createRefusedPush } from '../ciba/client-notification/undelivered-push.ts'
import { createBlockClient } from '../ciba/decision/block-client.ts'
import { createDecide } from '../ciba/decision/decide.ts'
import { createRevokeApproval } from '../ciba/decision/revoke-approval.ts'
import { createHeldResponses, repeatSecondsOf } from '../ciba/token-endpoint/held-responses.ts'
import { longestHold } from '../ciba/token-endpoint/long-poll.ts'
import { tokenEndpoint } from '../ciba/token-endpoint/token-endpoint.ts'
import { createIssueTokens } from '../ciba/tokens/issue-tokens.ts'
import { createDecoyUsers } from '../ciba/unknown-user/decoy-user.ts'
import { scopesOfClaims } from '../openid-provider/claims.ts'
import type { Senders } from '../outbox/delivery.ts'
import { endpoints, paths } from '../routes.ts'
import { createDemandUserCode } from '../user/user-code/user-code.ts'
import { type Channels, timeoutMsOf } from './channels.ts'
import type { Clients } from './clients.ts'
import type { OpenidProvider } from './openid-provider.ts'
import type { Outbox } from './outbox.ts'
import type { Platform } from './platform.ts'
import type { Requests } from './requests.ts'
import type { SigningKeys } from './signing-keys.ts'
import type { UserHints, Users } from './users.ts'

/** The parts of the server on which the code for authentication requests depends. */
export interface CibaNeeds {
  platform: Platform
  clients: Clients
  signingKeys: SigningKeys
  users: Users
  hints: UserHints
  openid: OpenidProvider
  stored: Requests
  channels: Channels
  outbox: Outbox
}

export type Ciba = ReturnType<typeof composeCiba>

export function composeCiba(needs: CibaNeeds) {
  const { platform, users, openid, stored } = needs
  const outbox = needs.outbox.store
  const { config, vault, clock, log, audit } = platform
  const issueTokens = createIssueTokens(openid.provider, users.findUser, openid.permissionsOf, config)
  const { requests, openRequests, decisions, blockedClients, denialPauses } = stored
  const decisionNeeds = {
    requests,
    openRequests,
    outbox,
    decisions,
    blockedClients,
    denialPauses,
    findUser: users.findUser,
    findClient: needs.clients.clients.find,
    vault,
    clock,
    log,
    audit,
  }
  return {
    issueTokens,
    senders: sendersOf(needs, issueTokens),
    decisionNeeds,
    decide: createDecide(decisionNeeds),
    blockClient: createBlockClient(decisionNeeds),
    revokeApproval: createRevokeApproval({ ...decisionNeeds, removeIssued: openid.models.removeByRequest }),
  }
}

type IssueTokens = ReturnType<typeof createIssueTokens>

/** Returns the functions that send notifications, by kind of notification. */
function sendersOf(needs: CibaNeeds, issueTokens: IssueTokens): Senders {
  const { platform, clients, openid, stored, channels, outbox } = needs
  const { vault, clock, audit, toClients: caller } = platform
  const toClient = {
    send: createNotifyClient({
      clients: clients.clients,
      requests: stored.requests,
      outbox: outbox.store,
      issueTokens,
      hasValidGrant: openid.models.hasValidGrant,
      signingKeys: rotatedKeysOf(needs),
      takeBack: createTakeBack(takeBackNeedsOf(needs)),
      timeout: timeoutMsOf(platform.config),
      caller,
      vault,
      clock,
      audit,
    }),
    whenRefused: createRefusedPush(undeliveredNeedsOf(needs)),
  }
  return { ping: toClient, push: toClient, ...channels.senders }
}

/** Returns the parts that are needed to revoke the tokens of a push that cannot be delivered. */
export function undeliveredNeedsOf({ platform, openid, outbox }: CibaNeeds) {
  const { vault, audit } = platform
  return { outbox: outbox.store, removeIssued: openid.models.removeByRequest, vault, audit }
}

function takeBackNeedsOf({ platform, openid, stored, outbox }: CibaNeeds) {
  const { vault } = platform
  return { requests: stored.requests, outbox: outbox.store, removeIssued: openid.models.removeByRequest, vault }
}

/** Adds the backchannel authentication endpoint and the token endpoint. */
export function addCibaRoutes(app: FastifyInstance, needs: CibaNeeds, ciba: Ciba): void {
  addBackchannelRoute(app, needs)
  const { platform, clients, openid, stored } = needs
  const { authenticateClient, certificateOf, proofs, senderConstraint } = clients
  const { requests, pending, heldPolls } = stored
  const { config, loadShedding, details, metrics, clock, audit } = platform
  tokenEndpoint(app, paths.token, {
    withFairShare: loadShedding.withFairShare,
    releaseSlotWhile: loadShedding.releaseSlotWhile,
    authenticateClient,
    certificateOf,
    requests,
    pending,
    heldPolls,
    longPoll: Math.min(config.requests.longPoll, longestHold),
    heldResponses: heldResponsesOf(needs),
    issueTokens: ciba.issueTokens,
    takeBack: createTakeBackForPoll(takeBackNeedsOf(needs)),
    details,
    proofs,
    senderConstraint,
    forwardToOidcProvider: openid.forwardToOidcProvider,
    polled: metrics.polled,
    clock,
    audit,
  })
}

function heldResponsesOf(needs: CibaNeeds) {
  const { config, database, vault, clock } = needs.platform
  return createHeldResponses({
    models: needs.openid.models,
    repeatSeconds: repeatSecondsOf(config.requests),
    findUser: needs.users.findUser,
    signingKeys: rotatedKeysOf(needs),
    database,
    vault,
    clock,
  })
}

/**
 * Returns a function that returns the current signing keys. Returns undefined if tokens are signed with the operator's
 * own keys (`oidc.jwks`), because these keys are not rotated.
 */
function rotatedKeysOf({ platform, signingKeys }: CibaNeeds) {
  return platform.config.oidc.jwks === undefined ? signingKeys.watch.now : undefined
}

function addBackchannelRoute(app: FastifyInstance, needs: CibaNeeds): void {
  const { platform, clients, users, hints, stored, channels } = needs
  const { config, vault, clock, databaseClock, audit, loadShedding, metrics } = platform
  const { clientKeys, usedAssertions, authenticateClient, certificateOf, senderConstraint } = clients
  const { requests, signedRequests, unknownUsers, blockedClients, decisions } = stored
  backchannelEndpoint(app, endpoints.backchannel, {
    withFairShare: loadShedding.withFairShare,
    authenticateClient,
    certificateOf,
    senderConstraint,
    readSignedRequest: createReadSignedRequest({
      issuer: config.issuer,
      keysOf: clientKeys.of,
      // The prefix `request ` separates the `jti` of signed requests from the `jti` of client assertions, which are
      // stored under the client id alone.
      useOnce: (clientId, jti, expiresAt) => usedAssertions.use(`request ${clientId}`, jti, expiresAt),
      clock,
    }),
    signedRequests,
    seekUser: hints.seekUser,
    unknownUsers,
    isRefused: blockedClients.isRefused,
    decoyFor: createDecoyUsers(vault),
    demandUserCode: createDemandUserCode({ ...users.codeNeeds, hasApproved: decisions.hasApproved }),
    requests,
    accepting: createAcceptingShares(),
    noticesFor: (request, user) => noticesFor(request, user, channels.channels, vault),
    policy: requestPolicyOf(platform),
    vault,
    clock,
    databaseClock,
    requested: metrics.requested,
    audit,
  })
}

/** Returns the limits and rules for authentication requests, from the configuration. */
function requestPolicyOf({ config, profile, details }: Platform) {
  return {
    ...config.requests,
    ...config.limits,
    scopes: config.tokens.scopes,
    mailed: config.email !== undefined,
    requireContext: profile.uniqueContext,
    requireNumber: config.requests.numberMatching === 'required',
    details,
    resources: config.resources,
    claims: scopesOfClaims(config.tokens.scopes, config.oidc.claims as Record<string, unknown> | undefined),
  }
}
