/**
 * The whole server, wired by hand: configuration, database, clock and users go in; routes and workers come out. Read
 * it to learn what there is.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { type FastifyPluginAsync, fastify } from 'fastify'
import { createAudit } from './audit.ts'
import {
  accountKindsOf,
  createAccountNoticeSenders,
  createTellOfChange,
  isAboutAccount,
} from './authentication-device/account-notice.ts'
import { activityEndpoint } from './authentication-device/activity-endpoint.ts'
import { createAdmission } from './authentication-device/admission.ts'
import { createAuthenticateApproval } from './authentication-device/approval-strength.ts'
import { createDeviceApi } from './authentication-device/device-api.ts'
import { createIdentifyCaller } from './authentication-device/device-caller.ts'
import { deviceEndpoint } from './authentication-device/device-endpoint.ts'
import { type Channel, createNoticeSender, noticesFor } from './authentication-device/device-notice.ts'
import { createNumberMatching, noNumberMatching } from './authentication-device/number-matching.ts'
import { passkeyEndpoint } from './authentication-device/passkey-endpoint.ts'
import { pushSubscriptionEndpoint } from './authentication-device/push-subscription-endpoint.ts'
import { sessionEndpoint } from './authentication-device/session-endpoint.ts'
import { userCodeEndpoint } from './authentication-device/user-code-endpoint.ts'
import { createRequestStore } from './authentication-request/authentication-request-store.ts'
import { createOpenRequestStore } from './authentication-request/open-request-store.ts'
import { createPendingRequests } from './authentication-request/pending-requests.ts'
import { createUserKey, USER_REQUESTS } from './authentication-request/user-announcement.ts'
import { createDetailTypes } from './authorization-details/detail-types.ts'
import {
  cookieNames,
  createAcceptance,
  createCurrentProvider,
  paths,
} from './authorization-server/authorization-server.ts'
import { authorizeEndpoint } from './authorization-server/authorize-endpoint.ts'
import { createHandOver } from './authorization-server/hand-over.ts'
import { discoveryPaths, handedOverEndpoint } from './authorization-server/handed-over-endpoint.ts'
import { createBeginFor } from './authorization-server/held-generations.ts'
import { keySetMaxAge, keyTimesOf } from './authorization-server/key-rotation.ts'
import { createKnownBrowsers } from './authorization-server/known-browsers.ts'
import { createOidcModelStore } from './authorization-server/oidc-model-store.ts'
import { createPairwiseSubjectStore } from './authorization-server/pairwise-subject-store.ts'
import { createPairwiseSubjects } from './authorization-server/pairwise-subjects.ts'
import { createPasswordSignIn } from './authorization-server/password-sign-in.ts'
import { createSignInAttemptStore } from './authorization-server/sign-in-attempt-store.ts'
import { signInEndpoint } from './authorization-server/sign-in-endpoint.ts'
import { createSignInPlaces } from './authorization-server/sign-in-places.ts'
import { createPasswordTryThrottle, createSignInThrottle } from './authorization-server/sign-in-throttle.ts'
import { createSigningKeyStore } from './authorization-server/signing-key-store.ts'
import { createSigningKeyWatch } from './authorization-server/signing-key-watch.ts'
import { userinfoEndpoint } from './authorization-server/userinfo-endpoint.ts'
import { backchannelEndpoint } from './backchannel-request/backchannel-endpoint.ts'
import { createStandIns } from './backchannel-request/pretence.ts'
import { createReadSignedRequest } from './backchannel-request/signed-request.ts'
import { createSignedRequestStore } from './backchannel-request/signed-request-store.ts'
import { createBlockedClientStore } from './client/blocked-client-store.ts'
import { breachesOf, type ClientMetadata, CONSENT_APP } from './client/client-metadata.ts'
import { createClientStore, type RegisteredClient } from './client/client-store.ts'
import { createDenialPauseStore } from './client/denial-pause-store.ts'
import { createKnownClients } from './client/known-clients.ts'
import { registerConfigured, secretPlace } from './client/register.ts'
import { createClientAuthentication } from './client-authentication/authenticate-client.ts'
import {
  assertionAlgorithms,
  createAcceptAssertion,
  createAssertionVerification,
} from './client-authentication/client-assertion.ts'
import { createClientKeys } from './client-authentication/client-keys.ts'
import { createSecretVerification } from './client-authentication/client-secret.ts'
import { createCertificateVerification } from './client-authentication/client-tls.ts'
import { createPrepareKeys } from './client-authentication/prepare-keys.ts'
import { createUsedAssertionStore } from './client-authentication/used-assertion-store.ts'
import { createReadCertificate } from './client-certificate/client-certificate.ts'
import { createInitialAccessStore } from './client-registration/initial-access-store.ts'
import { createRegistrationAttemptStore } from './client-registration/registration-attempt-store.ts'
import { registrationEndpoint } from './client-registration/registration-endpoint.ts'
import { createRegistrationStore } from './client-registration/registration-store.ts'
import { createSectorLists } from './client-registration/sector-identifier.ts'
import { clientSettingsEndpoint } from './client-settings/client-settings-endpoint.ts'
import { type Clock, systemClock } from './clock.ts'
import { type Config, seesCertificates } from './config/config.ts'
import { weakValues } from './config/weak-values.ts'
import { consentAppEndpoint } from './consent-app/consent-app-endpoint.ts'
import { createDeviceApiClient, type SendToServer } from './consent-app/device-api.ts'
import { createCookies } from './consent-app/session.ts'
import { admitOwn, createSignIn, fetchFrom } from './consent-app/sign-in.ts'
import { createBlockClient } from './decision/block-client.ts'
import { createDecide } from './decision/decide.ts'
import { createDecisionStore } from './decision/decision-store.ts'
import { createExpirySweep } from './decision/expiry-sweep.ts'
import { createRevokeApproval } from './decision/revoke-approval.ts'
import { createHeldPolls } from './delivery/held-polls.ts'
import { createPing } from './delivery/ping.ts'
import { createPush } from './delivery/push.ts'
import { demoEndpoint } from './demo/demo-endpoint.ts'
import { createTill } from './demo/till.ts'
import { createWire } from './demo/wire.ts'
import { developmentEndpoint } from './development/development-endpoint.ts'
import { createMailbox } from './development/mailbox.ts'
import { createDeviceWebhook } from './device-channels/device-webhook.ts'
import { createEmailChannel } from './device-channels/email.ts'
import { createNotifyHook, hasNotify } from './device-channels/notify-hook.ts'
import { createPushSubscriptionStore } from './device-channels/push-subscription-store.ts'
import { createPushSubscriptions, readPushSubscription } from './device-channels/push-subscriptions.ts'
import { createServerKeyStore } from './device-channels/server-key-store.ts'
import { loadVapidKeys } from './device-channels/vapid-keys.ts'
import { createWebPushChannel } from './device-channels/web-push.ts'
import { createNonces } from './dpop/nonces.ts'
import { createProofs } from './dpop/proof.ts'
import { createBindTokens } from './dpop/token-binding.ts'
import { endUnnamedUsers } from './endings/configured-users.ts'
import { endClient } from './endings/end-client.ts'
import { createEndSession } from './endings/end-session.ts'
import { createEndUser } from './endings/end-user.ts'
import { createSessionEndingStore } from './endings/session-ending-store.ts'
import { createUserSessionStore } from './endings/user-session-store.ts'
import { createUserSessions } from './endings/user-sessions.ts'
import { healthEndpoint } from './health/health-endpoint.ts'
import { createReadinessStore } from './health/readiness-store.ts'
import { type CallerPatience, edge, edgeOptions, onlyMethods, serverPatience } from './http/answer.ts'
import { createBoundedWait, noWait } from './http/bounded-wait.ts'
import { nameCallers } from './http/caller-address.ts'
import { fetchThrough } from './http/fetch.ts'
import { createInWork } from './http/in-work.ts'
import { createKeySets, knownKeysOr } from './http/key-sets.ts'
import { createEnding } from './http/life.ts'
import { answerRaw, asPlugin, collectRoutes } from './http/mount.ts'
import { createGuardedCaller, prepareCalls } from './http/outgoing.ts'
import { tlsOptions } from './http/tls.ts'
import { Unavailable } from './http/unavailable.ts'
import { chooseLanguage, loadTexts, type Texts } from './i18n/texts.ts'
import { createLog, type Log } from './log.ts'
import { createMetrics } from './metrics/metrics.ts'
import { metricsEndpoint } from './metrics/metrics-endpoint.ts'
import { createOutboxStore } from './outbox/outbox-store.ts'
import { createOutboxWorker } from './outbox/outbox-worker.ts'
import { pageHeaders, renderPage } from './pages/pages.ts'
import { createPasskeys } from './passkey/passkey.ts'
import { createPasskeyChallengeStore } from './passkey/passkey-challenge-store.ts'
import { createPasskeyStore } from './passkey/passkey-store.ts'
import { createHashingPlaces } from './password/hashing-places.ts'
import type { HashingNeeds } from './password/password-hashing.ts'
import { createScryptThreads } from './password/scrypt-threads.ts'
import { type Profile, profiles } from './profile.ts'
import { createPruning } from './retention/pruning.ts'
import { createVault, type Vault } from './secret.ts'
import type { Database } from './storage/database.ts'
import { migrate, migrationStatus } from './storage/migrate.ts'
import { openDatabase } from './storage/open.ts'
import { createDeviceToken } from './token/device-token.ts'
import { createIssueTokens } from './token/issue-tokens.ts'
import { tokenEndpoint } from './token-endpoint/token-endpoint.ts'
import { createFindUser, createSeekUser } from './user-hint/find-user.ts'
import { createReadHintToken } from './user-hint/hint-token.ts'
import { createPasswordCheck, passwordCheckOfHook } from './user-hint/password-check.ts'
import { createUnknownUserStore } from './user-hint/unknown-user-store.ts'
import {
  createCodeDirectory,
  createCodesOfHooks,
  createDemandUserCode,
  createOwnCode,
  hasUserCodes,
  noCodes,
} from './user-hint/user-code.ts'
import { createUserCodeStore } from './user-hint/user-code-store.ts'
import { createUserDirectory } from './user-hint/user-directory.ts'
import { createUserGenerationStore } from './user-hint/user-generation-store.ts'
import { createUserStore } from './user-hint/user-store.ts'

/** What comes in through the door besides the configuration; each has a sensible default. */
export interface Parts {
  clock?: Clock
  log?: Log
  /** Bring the database to the newest schema on the way. SQLite is always brought there. */
  migrate?: boolean
  /** Whether this process sends notifications and settles what runs out. Some process has to. */
  workers?: boolean
  /** How the database is opened. For tests: its wires can be slow, or cut. */
  openDatabase?: typeof openDatabase
  /** How long callers may take. For tests. */
  callerPatience?: CallerPatience
  /** How passwords and user codes are hashed. For tests: hashes can be cheap, or be held up. */
  passwords?: Partial<Pick<HashingNeeds, 'cost' | 'scrypt'>>
}

/** A running Doorbell. */
export interface Doorbell {
  /**
   * For `http.createServer`, Express, Koa or Nest: answers every Doorbell address, and 404 to all others. It reads
   * bodies itself: mount it before any body parser.
   */
  handler(request: IncomingMessage, response: ServerResponse): void
  /** A Fastify plugin that adds every Doorbell route to your own server. */
  fastify: FastifyPluginAsync
  /** For your own code: what waits for a user, and their decision. */
  requests: ReturnType<typeof createDeviceApi>
  /** For an application's own users: what hangs on one ends when the application says so, in one step. */
  users: {
    /** Ends all sessions and tokens of a user. */
    signOut(userId: string): Promise<void>
    /** Ends everything that hangs on a user who is gone: open requests are denied, passkeys and subscriptions removed. */
    end(userId: string): Promise<void>
  }
  /** Listens on the configured host and port. Answers the address. */
  listen(options?: { host?: string; port?: number }): Promise<string>
  /** Resolves when no notification is due or under way, and nothing waits to be written. */
  idle(): Promise<void>
  /** Settles what has run out, now. */
  sweep(): Promise<number>
  /** Forgets what is finished and older than `retention` says, now. Answers how many rows it were. */
  prune(): Promise<number>
  /**
   * Says that the end is near (`/health/ready`, `Connection: close`), serves on for `delay` seconds so that balancers
   * hear of it, then stops accepting, finishes what runs, hands the rest back and lets the database go. Called again, it
   * cuts the delay short, unless it is given one.
   */
  close(options?: { delay?: number }): Promise<void>
}

/** The CIBA addresses; those of everything else are in `authorization-server/`. */
export const endpoints = {
  backchannel: '/backchannel/authorize',
  authinfo: '/backchannel/authinfo',
  complete: '/backchannel/complete',
  passkeys: '/backchannel/passkeys',
  activity: '/backchannel/activity',
  revoke: '/backchannel/revoke',
  block: '/backchannel/block',
  pushSubscriptions: '/backchannel/push-subscriptions',
  userCode: '/backchannel/user-code',
  sessions: '/backchannel/sessions',
  clientconfig: '/backchannel/clientconfig',
} as const

/** What clients call. What is not here leads users to their decision, which is worth more than a poll. */
const clientRoutes = [
  endpoints.backchannel,
  endpoints.clientconfig,
  paths.token,
  paths.userinfo,
  paths.introspection,
  paths.revocation,
  paths.registration,
  `${paths.registration}/:client_id`,
  ...discoveryPaths,
]

/** Never refused for others: whoever looks after the server, and pages that listen, of which there is a limit. */
const freeRoutes = ['/health/live', '/health/ready', '/metrics', '/events', '/demo/events']

/** Bytes of an answer to a call of ours that are read: a key set is the largest thing we ask for (JO-4). */
const mostBytesRead = 64 * 1024

/**
 * A complete CIBA provider on the database the configuration names, with its workers running.
 *
 * @throws if the database cannot be reached, or its schema is older than this program and may not be brought up
 * @example
 * const doorbell = await createDoorbell(await loadConfig({ file: 'doorbell.config.ts' }))
 * http.createServer(doorbell.handler).listen(4000)
 */
export async function createDoorbell(config: Config, parts: Parts = {}): Promise<Doorbell> {
  const clock = parts.clock ?? systemClock
  const log = parts.log ?? createLog(config.logLevel)
  const database = await (parts.openDatabase ?? openDatabase)(config.database, { log, clock, serves: true })
  try {
    if (database.engine === 'sqlite' || parts.migrate) await migrate(database, clock)
    await refuseOtherSchema(database)
    return await wire(config, parts, { database, clock, log })
  } catch (error) {
    await database.close()
    throw error
  }
}

interface Ground {
  database: Database
  clock: Clock
  log: Log
}

async function wire(config: Config, parts: Parts, { database, clock, log }: Ground): Promise<Doorbell> {
  const vault = createVault(config.secret)
  const texts = loadTexts(config.texts)
  const profile = profiles[config.profile]
  const details = createDetailTypes(config.authorizationDetails.types, (type, error) =>
    log.error({ event: 'details.not_described', type, error }, 'users read its fields as they are'),
  )
  const { limits } = config

  // ── what is told of it ──
  const metrics = createMetrics()
  const audit = createAudit({ clock, log, hearers: [metrics.hear, ...(config.audit ? [config.audit] : [])] })

  // ── what is kept ──
  const clients = createKnownClients(createClientStore(database), { database, clock })
  const usedAssertions = createUsedAssertionStore(database)
  const userStore = createUserStore(database)
  const userGenerations = createUserGenerationStore(database)
  const userCodes = createUserCodeStore(database)
  const unknownUsers = createUnknownUserStore(database)
  const blockedClients = createBlockedClientStore(database)
  const denialPauses = createDenialPauseStore(database, inMilliseconds(limits.pauseAfterDenial))
  const signInAttempts = createSignInAttemptStore(
    database,
    inMilliseconds({ first: limits.signIn.pause, longest: limits.signIn.longestPause }),
  )
  const userKey = createUserKey(vault)
  const requests = createRequestStore(database, userKey)
  const openRequests = createOpenRequestStore(database)
  const pending = createPendingRequests({ requests, database, clock, log })
  const heldPolls = createHeldPolls({
    database,
    stillPending: requests.stillPending,
    most: config.requests.maxHeldPolls,
    clock,
    log,
  })
  const decisions = createDecisionStore(database)
  const outbox = createOutboxStore(database)
  const oidcModels = createOidcModelStore(database)
  const endedSessions = createSessionEndingStore(database)
  const userSessions = createUserSessionStore(database)
  const passkeyChallenges = createPasskeyChallengeStore(database)
  const initialAccess = createInitialAccessStore(database)
  const registrationAttempts = createRegistrationAttemptStore(database)
  const signingKeyStore = createSigningKeyStore(database)
  const signingKeys = await createSigningKeyWatch({
    keys: signingKeyStore,
    times: keyTimesOf(config),
    onNews: (heard) => database.listen('signing_keys', heard),
    vault,
    clock,
    log,
    audit,
  })

  const ownApp = ownClient(config.issuer, vault)
  const dropped = await registerConfigured([...config.clients, ownApp], {
    clients,
    vault,
    now: clock.now(),
    changed: (client) => audit({ event: 'client.configured', client }),
    endings: endClient,
  })
  const registered = await clients.list()
  refuseBreaches(registered, profile)
  const circumstances = {
    development: config.development,
    profile,
    seesCertificates: seesCertificates(config),
    detailTypes: details.names,
  }
  for (const client of dropped) audit({ event: 'client.removed', client, by: 'configuration' })

  // ── who: users and clients ──
  const endUser = createEndUser({ database, vault, clock, audit })
  if (Array.isArray(config.users)) await endUnnamedUsers(config.users, { database, endUser, now: clock.now() })
  const users = Array.isArray(config.users) ? createUserDirectory(config.users, userStore) : config.users
  const checkPassword = Array.isArray(config.users)
    ? createPasswordCheck(config.users, userStore)
    : passwordCheckOfHook(config.users)
  const scryptThreads = createScryptThreads()
  const hashingPlaces = createHashingPlaces({ vault, scrypt: scryptThreads.scrypt, ...parts.passwords })
  const caller = createGuardedCaller({
    timeout: config.notifications.timeout * 1000,
    maxBytes: mostBytesRead,
    allowPrivateNetworks: config.development || config.notifications.allowPrivateNetworks,
    allowHttp: config.development,
    ca: config.notifications.ca,
    clock,
  })
  // Neither a ring nor a ping is to wait until what calls its client, or fetches its keys, is loaded.
  const isCalled = ({ client }: RegisteredClient) => client.notificationEndpoint ?? client.metadata.jwks_uri
  if (config.hints.tokenIssuers.length > 0 || registered.some(isCalled)) await prepareCalls()
  const inWork = createInWork({ most: limits.inFlight, clients: clientRoutes, free: freeRoutes })
  const { whileFetching } = inWork
  const keySets = createKeySets({ caller, whileFetching, clock })
  const clientKeys = createClientKeys(keySets)
  const certificateOf = createReadCertificate({
    header: config.proxy.clientCertificateHeader,
    trustedProxies: config.proxy.trust,
    authorities: config.tls?.clientCa ?? config.proxy.clientCa,
    clock,
    log,
  })
  // The names under which clients know us: the issuer, and where they find us with their certificates.
  const alias = config.mutualTls?.issuer
  const addresses = [config.issuer, ...(alias === undefined ? [] : [alias])]
  const audiences = [
    config.issuer,
    ...addresses.flatMap((address) => [address + paths.token, address + endpoints.backchannel]),
  ]
  const acceptAssertion = createAcceptAssertion({
    issuer: config.issuer,
    // At its own endpoints oidc-provider takes their addresses, too.
    audiences: [
      ...audiences,
      ...addresses.flatMap((address) => [address + paths.introspection, address + paths.revocation]),
    ],
    strictAudience: config.strictAssertionAudience,
    used: usedAssertions,
    clock,
  })
  const authenticateClient = createClientAuthentication({
    clients,
    audit,
    whileProving: inWork.whileProving,
    verifySecret: createSecretVerification(vault),
    verifyCertificate: createCertificateVerification(clientKeys),
    verifyAssertion: createAssertionVerification({
      profile,
      audiences,
      vault,
      keys: clientKeys,
      accept: acceptAssertion,
      clock,
    }),
  })
  const nonceKey = vault.key('dpop nonces')
  const proofs = createProofs({
    addresses,
    algorithms: profile.clientSigning,
    nonces: createNonces(nonceKey, clock),
    requireNonce: config.dpop.requireNonce,
    // With a space, so that no client's assertions are meant.
    useOnce: (key, jti, expiresAt) => usedAssertions.use(`dpop ${key}`, jti, expiresAt),
    clock,
  })
  const bindTokens = createBindTokens({ proofs, boundTokensOnly: profile.boundTokensOnly })
  const pairwise = createPairwiseSubjects({ subjects: createPairwiseSubjectStore(database), vault, clock })
  const { tokenIssuers } = config.hints
  const seekUser = createSeekUser({
    users,
    issuer: config.issuer,
    publicKeys: async () => ({ keys: signingKeys.now().public }),
    userOfSubject: ({ metadata }, subject) => pairwise.userFor(metadata, subject),
    readHintToken:
      tokenIssuers.length === 0
        ? undefined
        : createReadHintToken({
            tokenIssuers,
            audience: config.issuer,
            algorithms: profile.clientSigning,
            // Of their own, so that fetches for clients never stand in the way of the operator's.
            keySets: createKeySets({ caller, whileFetching, clock }),
            clock,
          }),
    clock,
  })
  const findUser = createFindUser(seekUser)
  // Codes of an application's own users are the application's; those of the built-in directory their users look after.
  const codeOf = Array.isArray(config.users)
    ? createCodeDirectory(config.users, userCodes)
    : hasUserCodes(users)
      ? createCodesOfHooks(users)
      : noCodes
  const { lockSeconds, ...tryLimits } = config.userCodes
  const codeNeeds = {
    codeOf,
    tries: userCodes,
    limits: { ...tryLimits, lockFor: lockSeconds * 1000 },
    hashingPlaces,
    clock,
  }
  const ownCode = Array.isArray(config.users) ? createOwnCode({ ...codeNeeds, store: userCodes }) : undefined

  const passkeys = createPasskeys({
    store: createPasskeyStore(database),
    challenges: passkeyChallenges,
    issuer: config.issuer,
    clock,
  })

  // ── everything that is not CIBA ──
  const { openPerNetwork, openInAll } = limits.signIn
  const places = createSignInPlaces({ perNetwork: openPerNetwork, inAll: openInAll }, clock)
  const appCookies = createCookies({ secure: config.issuer.startsWith('https:'), vault, clock })
  const provider = createCurrentProvider(signingKeys, {
    issuer: config.issuer,
    development: config.development,
    tokens: config.tokens,
    sessions: config.sessions,
    profile,
    dpop: { ...config.dpop, nonceKey },
    seesCertificates: seesCertificates(config),
    resources: config.resources,
    details,
    cibaMetadata: {
      backchannel_authentication_endpoint: config.issuer + endpoints.backchannel,
      backchannel_token_delivery_modes_supported: profile.deliveryModes,
      backchannel_authentication_request_signing_alg_values_supported: profile.clientSigning,
      backchannel_user_code_parameter_supported: codeOf !== noCodes,
      ...(alias !== undefined && { mtls_endpoint_aliases: aliasesAt(alias) }),
      ...(config.registration.mode !== 'off' && { registration_endpoint: config.issuer + paths.registration }),
    },
    assertionAlgorithms: assertionAlgorithms(profile),
    acceptAssertion,
    keySetMaxAge: keySetMaxAge(config.keys.publishAhead),
    models: oidcModels,
    places,
    findClient: async (id) => {
      const client = await clients.find(id)
      if (client === undefined) return undefined
      const { metadata, secretHash, secretSealed } = client
      const secret = secretSealed === undefined ? undefined : vault.open(secretSealed, secretPlace(id))
      return { metadata, secretHash, secret }
    },
    ownClient: ownApp.client_id,
    endSession: (providerSession, cookies) =>
      endSession({
        accessToken: undefined,
        providerSession,
        pushEndpointHash: appCookies.browserIn(cookies),
        address: undefined,
      }),
    findUser: users.find.bind(users),
    pairwise,
    fetch: knownKeysOr(keySets, fetchThrough(caller)),
    vault,
    texts,
    clock,
    log,
    audit,
    extra: config.oidc,
  })
  const issueTokens = createIssueTokens(provider, users.find.bind(users), config)
  const handOver = createHandOver(
    provider,
    certificateOf,
    proofs,
    addresses.slice(1),
    createPrepareKeys({ clients, keys: clientKeys }),
  )

  // ── how users hear of requests ──
  const timeout = config.notifications.timeout * 1000
  const demoWire = config.development && config.demo ? createWire() : undefined
  const mailbox = config.development ? createMailbox({ texts, clock, onMail: demoWire?.showMail }) : undefined
  const subscriptions = createPushSubscriptions({ store: createPushSubscriptionStore(database), vault, clock })
  // Whoever signs in names these addresses, so they stay outside even where clients' may be in the house.
  const toPushServices = createGuardedCaller({
    timeout,
    maxBytes: mostBytesRead,
    allowPrivateNetworks: config.development,
    allowHttp: config.development,
    clock,
  })
  const vapid = config.webPush && (await loadVapidKeys({ keys: createServerKeyStore(database), vault, clock }))
  const channels: Channel[] = [
    mailbox,
    config.email && createEmailChannel({ ...config.email, issuer: config.issuer, texts, timeout }),
    vapid &&
      createWebPushChannel({ ...config.webPush!, keys: vapid, subscriptions, texts, caller: toPushServices, clock }),
    config.deviceWebhook && createDeviceWebhook({ ...config.deviceWebhook, caller, clock }),
    hasNotify(users) && createNotifyHook({ users, timeout, log }),
  ].filter((channel) => typeof channel === 'object')
  const numbers = config.requests.numberMatching ? createNumberMatching(vault.key('number matching')) : noNumberMatching
  const whereToCheck = config.issuer + (config.login.issuer === 'self' ? '/sessions' : '/passkeys')
  const accountKinds = accountKindsOf(config)
  const noticeNeeds = { findRequest: requests.find, clients, users, numbers, issuer: config.issuer }
  const worker = createOutboxWorker({
    outbox,
    senders: {
      ping: createPing({ caller, vault }),
      push: createPush({ requests, outbox, issueTokens, caller, vault, clock, audit }),
      ...Object.fromEntries(channels.map((channel) => [channel.kind, createNoticeSender(channel, noticeNeeds)])),
      ...createAccountNoticeSenders(channels, { users, link: whereToCheck, vault }),
    },
    attempts: config.notifications.attempts,
    // A mail server that is down for an hour is up again while the request still waits.
    untilTheirTimeIsOver: [...channels.map(({ kind }) => kind), ...accountKinds],
    isAboutUser: isAboutAccount,
    timeout,
    onNews: (heard) => database.listen('outbox', heard),
    clock,
    log,
    audit,
  })

  const tellOfChange = createTellOfChange({ kinds: accountKinds, post: worker.post, vault, clock })

  // ── what happens to a request ──
  const decisionNeeds = {
    requests,
    openRequests,
    outbox,
    decisions,
    post: worker.post,
    blockedClients,
    denialPauses,
    findUser: users.find.bind(users),
    vault,
    clock,
    log,
    audit,
  }
  const decide = createDecide(decisionNeeds)
  const sweep = createExpirySweep(decisionNeeds, [
    (now) => passkeyChallenges.forgetExpired(now),
    (now) => outbox.eraseParked(now - parkedKeepContent),
    (now) => initialAccess.forgetExpired(now),
    (now) => registrationAttempts.forgetOld(now),
    (now) => signingKeyStore.forgetRemoved(now),
    (now) => denialPauses.forgetOver(now),
    (now) => signInAttempts.forgetOld(now),
    (now) => unknownUsers.forgetOld(now),
    (now) => userCodes.forgetTries(now - lockSeconds * 1000),
    (now) => endedSessions.forget(now - config.sessions.absoluteTtl * 1000),
    (now) => userSessions.forget(now),
  ])
  const { retention } = config
  const signedRequests = createSignedRequestStore(database, vault)
  const pruning = createPruning({
    kept: [
      { what: 'used assertions', days: 0, forget: usedAssertions.forgetExpired },
      { what: 'tokens and sessions', days: 0, forget: oidcModels.forgetExpired },
      { what: 'notifications', days: retention.notifications, forget: outbox.forgetSettled },
      { what: 'requests', days: retention.requests, forget: requests.forgetFinished },
      { what: 'signed requests', days: retention.signedRequests, forget: signedRequests.forget },
      { what: 'history', days: retention.history, forget: decisions.forget },
    ],
    clock,
    log,
  })

  // ── the addresses ──
  const patienceWithCallers = serverPatience(parts.callerPatience)
  const app = fastify({
    ...edgeOptions,
    logger: false,
    ...(config.tls
      ? { https: { ...tlsOptions(config.tls, profile === profiles.core), ...patienceWithCallers } }
      : { http: patienceWithCallers }),
    forceCloseConnections: 'idle',
    requestTimeout: patienceWithCallers.requestTimeout,
  })
  edge(app, log, (acceptLanguage) => unavailablePage(texts, acceptLanguage), strictTransport(config))
  nameCallers(app, config.proxy.trust)
  app.addHook('onResponse', ({ method, routeOptions }, { statusCode: status, elapsedTime }, done) => {
    metrics.answered({ route: routeOptions.url ?? 'none', method, status }, elapsedTime / 1000)
    done()
  })
  const routes = collectRoutes(app)
  inWork.guard(app)

  backchannelEndpoint(app, endpoints.backchannel, {
    fairly: inWork.fairly,
    authenticateClient,
    certificateOf,
    bindTokens,
    readSignedRequest: createReadSignedRequest({
      issuer: config.issuer,
      keysOf: clientKeys.of,
      // With a space, so that no client's assertions are meant.
      useOnce: (clientId, jti, expiresAt) => usedAssertions.use(`request ${clientId}`, jti, expiresAt),
      clock,
    }),
    signedRequests,
    seekUser,
    unknownUsers,
    isBlocked: blockedClients.isBlocked,
    standInFor: createStandIns(vault),
    demandUserCode: createDemandUserCode({ ...codeNeeds, hasApproved: decisions.hasApproved }),
    requests,
    noticesFor: (request, user) => noticesFor(request, user, channels, vault),
    post: worker.post,
    policy: {
      ...config.requests,
      ...limits,
      scopes: config.tokens.scopes,
      mailed: config.email !== undefined,
      requireContext: profile.uniqueContext,
      requireNumber: config.requests.numberMatching === 'required',
      details,
      resources: config.resources,
    },
    vault,
    clock,
    audit,
  })
  tokenEndpoint(app, paths.token, {
    fairly: inWork.fairly,
    whileWaiting: inWork.whileWaiting,
    authenticateClient,
    certificateOf,
    requests,
    pending,
    heldPolls,
    longPoll: config.requests.longPoll,
    issueTokens,
    details,
    proofs,
    bindTokens,
    handOver,
    polled: metrics.polled,
    clock,
    audit,
  })
  const findClientMetadata = async (id: string) => (await clients.find(id))?.metadata
  const identifyCaller = createIdentifyCaller({
    provider,
    clients,
    users,
    authenticateClient,
    certificateOf,
    proofs,
    findUser,
  })
  deviceEndpoint(app, endpoints, {
    numbers,
    identifyCaller,
    requests,
    clients,
    decide,
    authenticateApproval: createAuthenticateApproval({ passkeys, findClient: findClientMetadata, clock }),
    details,
    clock,
  })
  passkeyEndpoint(app, endpoints.passkeys, {
    identifyCaller,
    users,
    requests,
    passkeys,
    tellOfChange,
    signsInHere: config.login.issuer === 'self',
    clock,
    audit,
  })
  const throttleNeeds = { attempts: signInAttempts, limits: limits.signIn, vault, clock }
  if (ownCode) {
    const throttle = createPasswordTryThrottle(throttleNeeds)
    const codeEndpointNeeds = { identifyCaller, users, checkPassword, ownCode, tellOfChange, throttle, clock, audit }
    userCodeEndpoint(app, endpoints.userCode, codeEndpointNeeds)
  }
  clientSettingsEndpoint(app, endpoints.clientconfig, {
    authenticateClient,
    certificateOf,
    clients,
    circumstances,
    clock,
    audit,
  })
  // The demo shows the phone in a frame of its own page. Nobody else is let.
  const framing = demoWire ? 'self' : 'none'
  const knownBrowsers = createKnownBrowsers({
    secure: config.issuer.startsWith('https:'),
    generationOf: async (userId) => (await userGenerations.find(userId)).generation,
    vault,
    clock,
  })
  const beginFor = createBeginFor(userGenerations)
  signInEndpoint(app, {
    provider,
    users,
    passkeys,
    texts,
    beginFor,
    framing,
    passwordSignIn: createPasswordSignIn({
      users,
      beginFor,
      checkPassword,
      findClient: findClientMetadata,
      throttle: createSignInThrottle(throttleNeeds),
      knownBrowsers,
      hashingPlaces,
    }),
    knownBrowsers,
    clock,
    audit,
  })
  // oidc-provider says 404 to a method it does not take.
  for (const path of [paths.introspection, paths.revocation]) {
    onlyMethods(app, path, ['POST', 'OPTIONS'])
    app.post(path, handOver)
  }
  userinfoEndpoint(app, paths.userinfo, { handOver, log })
  onlyMethods(app, paths.jwks, ['GET', 'OPTIONS'])
  if (config.registration.mode !== 'off') {
    registrationEndpoint(app, paths.registration, {
      issuer: config.issuer,
      policy: { mode: config.registration.mode, perHour: config.registration.perHour },
      clients,
      registrations: createRegistrationStore(database),
      attempts: registrationAttempts,
      initialAccess,
      circumstances,
      scopes: config.tokens.scopes,
      userCodes: codeOf !== noCodes,
      mailed: config.email !== undefined,
      accepts: createAcceptance(provider, config.tokens),
      endings: endClient,
      sectorLists: createSectorLists({ caller, whileFetching, clock }),
      vault,
      clock,
      audit,
    })
  }
  authorizeEndpoint(app, paths.authorization, { handOver, places, remove: oidcModels.removeSignIns, texts })
  handedOverEndpoint(app, provider, handOver)
  activityEndpoint(app, endpoints, {
    identifyCaller,
    requests,
    decisions,
    revokeApproval: createRevokeApproval({ ...decisionNeeds, removeIssued: oidcModels.removeByRequest }),
    blockClient: createBlockClient(decisionNeeds),
    clients,
    blockedClients,
    details,
    clock,
    audit,
  })
  pushSubscriptionEndpoint(app, endpoints.pushSubscriptions, {
    identifyCaller,
    async add(userId, text) {
      const subscription = readPushSubscription(text)
      if (subscription !== undefined) await subscriptions.add(userId, subscription)
      return subscription !== undefined
    },
    remove: subscriptions.remove,
    claim: subscriptions.claim,
  })
  if (config.login.issuer === 'self') {
    const sessions = createUserSessions({ provider, store: userSessions, userKey, clock, audit })
    sessionEndpoint(app, endpoints.sessions, { identifyCaller, sessions })
  }
  const endSession = createEndSession({ provider, store: endedSessions, userKey, clock, audit })
  const send: SendToServer = async ({ path, body, from, ...request }) => {
    const call = { ...request, url: path, ...(body !== undefined && { payload: body }) }
    const answer = await app
      .inject({ ...call, ...(from !== undefined && { remoteAddress: from }) })
      .catch(notWhileClosing)
    return { status: answer.statusCode, headers: textHeaders(answer.headers), text: answer.body }
  }
  const elsewhere = createGuardedCaller({
    timeout: signInTimeout,
    maxBytes: mostBytesRead,
    // The operator has named this provider; it may well be in the house.
    allowPrivateNetworks: true,
    allowHttp: config.development,
    clock,
  })
  const { login } = config
  const whereUsersSignIn =
    login.issuer === 'self'
      ? {
          issuer: config.issuer,
          clientId: ownApp.client_id,
          clientSecret: ownApp.client_secret!,
          scope: ownApp.scope!,
          fetch: fetchFrom(send),
          admit: admitOwn,
        }
      : {
          issuer: login.issuer,
          clientId: login.client_id!,
          clientSecret: login.client_secret!,
          scope: 'openid profile email',
          fetch: fetchThrough(elsewhere),
          admit: createAdmission({
            users,
            usersAreHooks: !Array.isArray(config.users),
            app: ownApp,
            audit,
            deviceToken: createDeviceToken(provider, ownApp.client_id),
          }),
        }
  await app.register(async (scope) =>
    consentAppEndpoint(scope, {
      issuer: config.issuer,
      api: createDeviceApiClient(send),
      endSession,
      providerCookie: login.issuer === 'self' ? cookieNames(config.issuer).session : undefined,
      signIn: createSignIn({ redirectUri: ownApp.redirect_uris[0]!, ...whereUsersSignIn }),
      whileSigningIn: login.issuer === 'self' ? noWait : createBoundedWait(whileFetching),
      cookies: appCookies,
      texts,
      pushKey: vapid?.publicKey,
      userCodes: ownCode !== undefined,
      onChange: (heard) => database.listen(USER_REQUESTS, heard),
      userKey,
      framing,
      streams: limits.streams,
      clock,
      log,
      audit,
    }),
  )
  healthEndpoint(app, { database, readiness: createReadinessStore({ database, clock }) })
  if (config.metrics.enabled) {
    // In development whoever is at this machine may look.
    const from = [...config.metrics.from, ...(config.development ? loopback : [])]
    metricsEndpoint(app, '/metrics', {
      metrics,
      access: { ...config.metrics, from },
      countOpen: requests.countOpen,
      countHeldPolls: heldPolls.count,
      countHashingPlaces: () => hashingPlaces.counts().places,
      outbox,
      clock,
    })
  }
  const till =
    demoWire &&
    createTill({
      issuer: config.issuer,
      paths: { backchannel: endpoints.backchannel, token: paths.token, jwks: paths.jwks },
      secretOf: (id) => config.clients.find(({ client_id }) => client_id === id)?.client_secret,
      send,
      wire: demoWire,
      clock,
      log,
    })
  if (mailbox) developmentEndpoint(app, { requests, decide, mailbox, onCall: till?.hear, clock })
  if (till) demoEndpoint(app, { paths: endpoints, till, wire: demoWire, mostStreams: limits.streams.inAll, clock })
  await app.ready()

  const works = parts.workers ?? true
  signingKeys.start({ rotates: works })
  if (works) {
    worker.start()
    sweep.start()
    pruning.start()
  }
  for (const { setting, problem, isKey, advice } of weakValues(config)) {
    log[isKey ? 'error' : 'warn']({ event: 'config.weak_value', setting, advice }, `the ${setting} ${problem}`)
  }
  if (channels.length === 0) {
    log.warn(
      { event: 'device.no_channel' },
      'no channel tells users of requests; their app has to ask /backchannel/authinfo',
    )
  }

  const close = createEnding({
    clock,
    announce() {
      app.life.announceEnd()
      heldPolls.close()
    },
    async end() {
      // Real time, whatever the clock: somebody waits for this process to end.
      const cutOff = systemClock.after(patience, () => app.server.closeAllConnections())
      const answered = app.life.quiet(patience)
      await Promise.all([
        app.close(),
        answered,
        sweep.stop(),
        pruning.stop(),
        worker.stop(patience),
        signingKeys.stop(),
      ])
      cutOff()
      app.life.over()
      await Promise.all([caller, toPushServices, elsewhere, scryptThreads].map((each) => each.close()))
      await pending.close()
      await database.close()
    },
  })

  return {
    handler: (request, response) => answerRaw(app, log, request, response),
    fastify: asPlugin(app, routes),
    requests: createDeviceApi({ requests, decide, details, clock }),
    users: {
      async signOut(userId) {
        await endUser(userId, 'signed_out', { by: 'application' })
      },
      async end(userId) {
        // Who is there among its own users, and who comes back, only the application says.
        await endUser(userId, 'removed', { by: 'application', closes: Array.isArray(config.users) })
      },
    },
    listen: ({ host = config.host, port = config.port } = {}) => app.listen({ host, port }),
    async idle() {
      await Promise.all([worker.idle(), pending.flush()])
    },
    sweep: () => sweep.sweep(),
    prune: () => pruning.prune(),
    close,
  }
}

/** The consent app is a client like others: confidential, with a secret that every node derives for itself. */
function ownClient(issuer: string, vault: Vault): ClientMetadata {
  return {
    client_id: CONSENT_APP,
    client_secret: vault.key('consent app').toString('base64url'),
    client_name: 'Doorbell',
    redirect_uris: [`${issuer}/session/callback`],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    scope: 'openid profile ciba:decide',
    token_endpoint_auth_method: 'client_secret_basic',
  }
}

/** What a client with a certificate calls, all but where users go (ML-12). */
function aliasesAt(address: string) {
  return {
    token_endpoint: address + paths.token,
    backchannel_authentication_endpoint: address + endpoints.backchannel,
    userinfo_endpoint: address + paths.userinfo,
    introspection_endpoint: address + paths.introspection,
    revocation_endpoint: address + paths.revocation,
  }
}

/** Fastify does not let a server that closes ask itself any more. */
function notWhileClosing(error: Error & { code?: string }): never {
  throw error.code === 'FST_ERR_REOPENED_CLOSE_SERVER' ? new Unavailable('the server closes') : error
}

function textHeaders(headers: OutgoingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}

const loopback = ['127.0.0.0/8', '::1']

function inMilliseconds({ first, longest }: { first: number; longest: number }) {
  return { first: first * 1000, longest: longest * 1000 }
}

/** Browsers keep it by host: in development that may be `localhost`, and everybody's. */
function strictTransport({ issuer, development, hsts }: Config): Record<string, string> {
  if (!issuer.startsWith('https:') || development) return {}
  return { 'strict-transport-security': `max-age=${hsts.maxAge}` }
}

/** Milliseconds that another provider has to answer when a user signs in there. */
const signInTimeout = 10_000

/** Milliseconds that answers and notifications under way are given when the server is to end. */
const patience = 4_000

/** Milliseconds a parked notification keeps what it says, so that an operator can send it after all (PU-11). */
const parkedKeepContent = 24 * 3600_000

/** Clients may have been registered before the deployment promised anything; the server's own is part of the server. */
function refuseBreaches(registered: RegisteredClient[], profile: Profile): void {
  const breaches = registered
    .filter(({ client }) => client.id !== CONSENT_APP)
    .flatMap(({ client }) => breachesOf(client.metadata, profile).map(({ says }) => `client ${client.id}: ${says}`))
  if (breaches.length > 0) throw new ProfileError(breaches)
}

/** Registered clients that break the profile. The message names each, and what is wrong with it. */
export class ProfileError extends Error {
  override readonly name = 'ProfileError'

  constructor(breaches: string[]) {
    super(`registered clients do not keep to the profile:\n${breaches.map((each) => `  - ${each}`).join('\n')}`)
  }
}

async function refuseOtherSchema(database: Database): Promise<void> {
  const { pending, unknown } = await migrationStatus(database)
  if (pending.length === 0 && unknown.length === 0) return
  throw new SchemaError(
    pending.length > 0
      ? `the database lacks ${pending.join(', ')}: run "doorbell migrate", or serve with --migrate`
      : `the database is newer than this program (${unknown.join(', ')}): run the newer Doorbell`,
  )
}

/** The database is there, but not at the schema this program works with. The message says what to do. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError'
}

/** What browsers see while the server cannot answer. */
function unavailablePage(texts: Texts, acceptLanguage: string | undefined) {
  const lang = chooseLanguage(acceptLanguage)
  const say = texts.in(lang)
  const values = { lang, say, title: say('error.title'), description: say('error.away') }
  return { headers: pageHeaders, text: renderPage('error', values) }
}
