/**
 * Builds the parts around oidc-provider, which are needed for all functions other than CIBA: the configuration of
 * oidc-provider, sign-in, and the requests that are forwarded to oidc-provider.
 */
import type { FastifyInstance } from 'fastify'
import { createUserKey } from '../ciba/authentication-request/user-announcement.ts'
import { repeatSecondsOf } from '../ciba/token-endpoint/held-responses.ts'
import { createPermissionsOf } from '../client/permissions.ts'
import { scopesOf } from '../config/clients.ts'
import { seesCertificates } from '../config/config.ts'
import { createCookies } from '../consent-app/session.ts'
import { createEndSession } from '../endings/end-session.ts'
import { createSessionEndingStore } from '../endings/session-ending-store.ts'
import { createUserSessionStore } from '../endings/user-session-store.ts'
import { createMakeRoomForSession } from '../endings/user-sessions.ts'
import { authorizeEndpoint } from '../openid-provider/authorize-endpoint.ts'
import { scopesOfClaims } from '../openid-provider/claims.ts'
import { createBeginFor } from '../openid-provider/generations-of-call.ts'
import { createKnownTokens } from '../openid-provider/known-tokens.ts'
import { createForwardToOidcProvider } from '../openid-provider/oidc-call.ts'
import { createAuthenticateForwarded } from '../openid-provider/oidc-call-client.ts'
import { forwardedEndpoint } from '../openid-provider/oidc-call-endpoint.ts'
import type { ReturningUsers } from '../openid-provider/oidc-call-limits.ts'
import { createOidcModelStore } from '../openid-provider/oidc-model-store.ts'
import { createCurrentProvider } from '../openid-provider/openid-provider.ts'
import { createKnownBrowsers } from '../openid-provider/sign-in/known-browsers.ts'
import { createPasswordSignIn } from '../openid-provider/sign-in/password-sign-in.ts'
import { signInEndpoint } from '../openid-provider/sign-in/sign-in-endpoint.ts'
import { createSignInPlaces } from '../openid-provider/sign-in-places.ts'
import { keySetMaxAge } from '../openid-provider/signing-keys/key-rotation.ts'
import { userinfoEndpoint } from '../openid-provider/userinfo-endpoint.ts'
import { fingerprint } from '../platform/crypto.ts'
import { onlyMethods } from '../platform/http/answer.ts'
import { fetchThrough } from '../platform/http/fetch.ts'
import { knownKeysOr } from '../platform/jose/key-sets.ts'
import type { Framing } from '../platform/pages/pages.ts'
import { assertionAlgorithms } from '../platform/security-profile.ts'
import { aliasesAt, endpoints, paths } from '../routes.ts'
import type { Clients } from './clients.ts'
import type { Platform } from './platform.ts'
import type { SigningKeys } from './signing-keys.ts'
import type { Users } from './users.ts'

export type OpenidProvider = ReturnType<typeof composeOpenidProvider>

export function composeOpenidProvider(platform: Platform, clients: Clients, users: Users, signingKeys: SigningKeys) {
  const { config, database, vault, clock, audit } = platform
  const { openPerNetwork, openInAll } = config.limits.signIn
  const models = createOidcModelStore(database, { repeatsTokens: repeatSecondsOf(config.requests) > 0 })
  const endedSessions = createSessionEndingStore(database)
  const appCookies = createCookies({ issuer: config.issuer, vault, clock })
  const places = createSignInPlaces({ perNetwork: openPerNetwork, inAll: openInAll }, clock)
  const knownTokens = createKnownTokens()
  const knownBrowsers = createKnownBrowsers({
    issuer: config.issuer,
    generationOf: async (userId) => (await users.generations.find(userId)).generation,
    vault,
    clock,
  })
  const returningUsers: ReturningUsers = {
    byCookies: (cookies) => knownBrowsers.signInsOf(cookies)[0]?.userId ?? appCookies.userIn(cookies),
    byToken: (token) => knownTokens.userOf(fingerprint(token)),
  }
  const userKey = createUserKey(vault)
  const userSessions = createUserSessionStore(database)
  const permissionsOf = createPermissionsOf(clients.clients.find, offeredBy(platform))
  const provider = createCurrentProvider(signingKeys.watch, {
    ...settingsOf(platform),
    ...clientsSeenBy(platform, clients),
    cibaMetadata: metadataOf(platform, clients, users.hasUserCodes),
    models,
    permissionsOf,
    places,
    knownTokens,
    makeRoomForSession: createMakeRoomForSession({ store: userSessions, userKey, clock, audit }),
    findUser: users.findUser,
    endSession: (providerSession, cookies) =>
      endSession({
        accessToken: undefined,
        providerSession,
        pushEndpointHash: appCookies.browserIn(cookies),
        address: undefined,
      }),
  })
  const endSession = createEndSession({ provider, store: endedSessions, userKey, clock, audit })
  const { certificateOf, proofs, addresses } = clients
  return {
    provider,
    permissionsOf,
    models,
    places,
    endedSessions,
    endSession,
    appCookies,
    knownBrowsers,
    returningUsers,
    forwardToOidcProvider: createForwardToOidcProvider(
      provider,
      certificateOf,
      proofs,
      addresses.slice(1),
      config.resources,
      createAuthenticateForwarded(clients.authenticateClient),
      platform.loadShedding,
      returningUsers,
    ),
  }
}

function settingsOf({ config, profile, details, vault, texts, clock, log, audit }: Platform) {
  return {
    issuer: config.issuer,
    development: config.development,
    tokens: config.tokens,
    sessions: config.sessions,
    profile,
    seesCertificates: seesCertificates(config),
    resources: config.resources,
    details,
    assertionAlgorithms: assertionAlgorithms(profile),
    keySetMaxAge: keySetMaxAge(config.keys.publishAhead),
    vault,
    texts,
    clock,
    log,
    audit,
    extra: config.oidc,
  }
}

/**
 * Returns the parts that oidc-provider needs to find clients, to bind tokens to DPoP keys, to compute pairwise
 * subjects, and to fetch documents of clients.
 */
function clientsSeenBy({ config, keySets, toDocuments }: Platform, ours: Clients) {
  const { clients, ownApp, nonceKey, pairwise } = ours
  return {
    findClient: (id: string) => clients.find(id),
    ownClient: ownApp.client_id,
    dpop: { ...config.dpop, nonceKey },
    pairwise,
    fetch: knownKeysOr(keySets, fetchThrough(toDocuments)),
  }
}

/**
 * Returns the scopes, claims, resources and types of authorization details that the configuration offers to clients.
 */
function offeredBy({ config, details }: Platform) {
  const own = config.oidc as { scopes?: string[]; claims?: Record<string, unknown>; features?: Record<string, unknown> }
  return {
    scopes: [...scopesOf(config), ...(own.scopes ?? [])],
    defaultScopes: config.tokens.scopes,
    claims: scopesOfClaims(config.tokens.scopes, own.claims),
    resources: config.resources,
    detailTypes: details.names,
    isExtended: {
      resources: own.features?.resourceIndicators !== undefined,
      details: own.features?.richAuthorizationRequests !== undefined,
    },
  }
}

/** The CIBA members of the metadata document (CIBA §4). */
function metadataOf({ config, profile }: Platform, { alias }: Clients, hasUserCodes: boolean) {
  return {
    backchannel_authentication_endpoint: config.issuer + endpoints.backchannel,
    backchannel_token_delivery_modes_supported: profile.deliveryModes,
    backchannel_authentication_request_signing_alg_values_supported: profile.clientSigning,
    backchannel_user_code_parameter_supported: hasUserCodes,
    ...(alias !== undefined && { mtls_endpoint_aliases: aliasesAt(alias) }),
    ...(config.registration.mode !== 'off' && { registration_endpoint: config.issuer + paths.registration }),
  }
}

interface OpenidRouteNeeds {
  platform: Platform
  clients: Clients
  users: Users
  openid: OpenidProvider
  /** Whether the sign-in pages may be shown in a frame. */
  framing: Framing
}

/** Adds sign-in and the endpoints of oidc-provider. */
export function addOpenidRoutes(app: FastifyInstance, needs: OpenidRouteNeeds): void {
  const { forwardToOidcProvider, provider, places, models, returningUsers } = needs.openid
  addSignIn(app, needs)
  // At these paths, oidc-provider itself would respond with 404, not 405, to a method that is not allowed.
  for (const path of [paths.introspection, paths.revocation]) {
    onlyMethods(app, path, ['POST', 'OPTIONS'])
    app.post(path, forwardToOidcProvider)
  }
  userinfoEndpoint(app, paths.userinfo, { forwardToOidcProvider, log: needs.platform.log })
  onlyMethods(app, paths.jwks, ['GET', 'OPTIONS'])
  const { texts } = needs.platform
  const signIns = { places, remove: models.removeSignIns, returningUsers }
  authorizeEndpoint(app, paths.authorization, { forwardToOidcProvider, ...signIns, texts })
  forwardedEndpoint(app, provider, forwardToOidcProvider)
}

function addSignIn(app: FastifyInstance, { platform, clients, users: ours, openid, framing }: OpenidRouteNeeds): void {
  const { texts, clock, audit, loadShedding } = platform
  const { whileUnproven } = loadShedding
  const { users, passkeys, checkPassword, signInThrottle: throttle, credentialQueue, generations } = ours
  const { knownBrowsers, returningUsers } = openid
  const beginFor = createBeginFor(generations)
  const passwordSignIn = createPasswordSignIn({
    users,
    beginFor,
    checkPassword,
    clients: clients.clients,
    throttle,
    knownBrowsers,
    credentialQueue,
    clock,
  })
  const checksPasswords = checkPassword !== undefined
  const needs = { users, passkeys, beginFor, passwordSignIn, knownBrowsers, checksPasswords, whileUnproven }
  signInEndpoint(app, { ...needs, returningUsers, provider: openid.provider, texts, framing, clock, audit })
}
