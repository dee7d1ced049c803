/**
 * Builds the parts for registered clients and their authentication, and the endpoints at which clients register and
 * change their notification settings.
 */
import type { FastifyInstance } from 'fastify'
import { createClientAuthentication } from '../client/authentication/authenticate-client.ts'
import { createAcceptAssertion, createAssertionVerification } from '../client/authentication/client-assertion.ts'
import { createClientKeys } from '../client/authentication/client-keys.ts'
import { createSecretVerification } from '../client/authentication/client-secret.ts'
import { createCertificateVerification } from '../client/authentication/client-tls.ts'
import { createUsedAssertionStore } from '../client/authentication/used-jti-store.ts'
import { createReadCertificate } from '../client/certificate/client-certificate.ts'
import { createKnownClients } from '../client/client-cache.ts'
import { type ClientStore, clientPageSize, createClientStore, type RegisteredClient } from '../client/client-store.ts'
import { registerConfigured } from '../client/configured-clients.ts'
import { type ClientMetadata, CONSENT_APP } from '../client/metadata/client-metadata.ts'
import { profileViolations, restrictsClients } from '../client/metadata/profile-violations.ts'
import { createOperatorNameStore } from '../client/operator-name-store.ts'
import { createOperatorNames } from '../client/operator-names.ts'
import { createPairwiseSubjectStore } from '../client/pairwise/pairwise-subject-store.ts'
import { createPairwiseSubjects } from '../client/pairwise/pairwise-subjects.ts'
import { createSectorLists } from '../client/pairwise/sector-identifier.ts'
import { clientSettingsEndpoint } from '../client/registration/delivery-settings-endpoint.ts'
import { createInitialAccessStore } from '../client/registration/initial-access-token-store.ts'
import { createRegistrationAttemptStore } from '../client/registration/registration-attempt-store.ts'
import { registrationEndpoint } from '../client/registration/registration-endpoint.ts'
import { createRegistrationStore } from '../client/registration/registration-store.ts'
import { adviceOnSameName, createSameNameStore, saySameName } from '../client/registration/same-name-store.ts'
import { createNonces } from '../client/sender-constraint/dpop-nonces.ts'
import { createProofs } from '../client/sender-constraint/dpop-proof.ts'
import { createSenderConstraint } from '../client/sender-constraint/sender-constraint.ts'
import { seesCertificates } from '../config/config.ts'
import { endClient } from '../endings/end-client.ts'
import { createAcceptance } from '../openid-provider/client-view.ts'
import type { Vault } from '../platform/crypto.ts'
import { createFairQueue } from '../platform/http/fair-queue.ts'
import { prepareCalls } from '../platform/http/outgoing.ts'
import { type Profile, ProfileError } from '../platform/security-profile.ts'
import { endpoints, paths } from '../routes.ts'
import type { OpenidProvider } from './openid-provider.ts'
import type { Platform } from './platform.ts'

export type Clients = Awaited<ReturnType<typeof composeClients>>

/**
 * Builds the parts for clients. Also registers the clients of the configuration.
 *
 * @throws {ProfileError} if a registered client violates the security profile
 */
export async function composeClients(platform: Platform) {
  const { config, database, vault, onUnreadable, clock, log, audit, profile, details } = platform
  const clients = createKnownClients(createClientStore(database, onUnreadable), { database, clock })
  const ownApp = ownClient(config.issuer, vault)
  const dropped = await registerConfigured([...config.clients, ownApp], {
    clients,
    vault,
    now: clock.now(),
    // No audit event is sent for the consent app: it is Doorbell's own client and not in the configuration.
    changed: (client) => client !== CONSENT_APP && audit({ event: 'client.configured', client, by: 'configuration' }),
    endings: endClient,
  })
  const isAnyCalled = await checkRegistered(clients, profile)
  for (const each of await createSameNameStore(database).find(config.clients)) {
    log.warn({ event: 'client.same_name', ...each, advice: adviceOnSameName(each) }, saySameName(each))
  }
  for (const client of dropped) audit({ event: 'client.removed', client, by: 'configuration' })
  // Loads the HTTP client undici at the start, so that no authentication request or ping waits for it later.
  if (config.hints.tokenIssuers.length > 0 || isAnyCalled) await prepareCalls()

  return {
    clients,
    /** The client metadata of the consent app. */
    ownApp,
    pairwise: createPairwiseSubjects({ subjects: createPairwiseSubjectStore(database), vault, clock }),
    initialAccess: createInitialAccessStore(database),
    registrationAttempts: createRegistrationAttemptStore(database),
    /** The context in which client metadata is validated. */
    validationContext: {
      development: config.development,
      profile,
      seesCertificates: seesCertificates(config),
      detailTypes: details.names,
    },
    ...composeAuthentication(platform, clients),
  }
}

/** Builds client authentication, and the checks of sender-constrained tokens. */
function composeAuthentication(platform: Platform, clients: ReturnType<typeof createKnownClients>) {
  const { config, database, vault, clock, log, audit, profile, loadShedding, keySets } = platform
  const clientKeys = createClientKeys(keySets)
  const usedAssertions = createUsedAssertionStore(database)
  const certificateOf = createReadCertificate({
    header: config.proxy.clientCertificateHeader,
    chainHeader: config.proxy.clientCertificateChainHeader,
    trustedProxies: config.proxy.trust,
    authorities: config.tls?.clientCa ?? config.proxy.clientCa,
    clock,
    log,
  })
  // The base addresses that clients use: the issuer and, if configured, `mutualTls.issuer` (RFC 8705 §5).
  const alias = config.mutualTls?.issuer
  const addresses = [config.issuer, ...(alias === undefined ? [] : [alias])]
  const at = (...which: string[]) => addresses.flatMap((address) => which.map((path) => address + path))
  // Every address at which clients authenticate (CIBA Core §7.1).
  const audiences = [config.issuer, ...at(paths.token, endpoints.backchannel, paths.introspection, paths.revocation)]
  const acceptAssertion = createAcceptAssertion({
    issuer: config.issuer,
    audiences,
    strictAudience: config.strictAssertionAudience,
    used: usedAssertions,
    clock,
  })
  const nonceKey = vault.key('dpop nonces')
  const proofs = createProofs({
    addresses,
    algorithms: profile.clientSigning,
    nonces: createNonces(nonceKey, clock),
    requireNonce: config.dpop.requireNonce,
    // The prefix `dpop ` separates the `jti` of DPoP proofs from the `jti` of client assertions, which are stored under
    // the client id alone.
    useOnce: (key, jti, expiresAt) => usedAssertions.use(`dpop ${key}`, jti, expiresAt),
    clock,
  })
  const verifyAssertion = { profile, audiences, vault, keys: clientKeys, accept: acceptAssertion, clock }

  return {
    addresses,
    alias,
    clientKeys,
    usedAssertions,
    certificateOf,
    nonceKey,
    proofs,
    senderConstraint: createSenderConstraint({ proofs, boundTokensOnly: profile.boundTokensOnly }),
    authenticateClient: createClientAuthentication({
      clients,
      development: config.development,
      audit,
      whileProving: loadShedding.whileProving,
      verifySecret: createSecretVerification(vault),
      verifyCertificate: createCertificateVerification(clientKeys),
      verifyAssertion: createAssertionVerification(verifyAssertion),
    }),
  }
}

interface ClientRouteNeeds {
  platform: Platform
  clients: Clients
  provider: OpenidProvider['provider']
  /** Whether any user can have a user code. */
  hasUserCodes: boolean
}

/** Adds the endpoints at which clients register, and the endpoint at which they change their notification settings. */
export function addClientRoutes(
  app: FastifyInstance,
  { platform, clients: ours, provider, hasUserCodes }: ClientRouteNeeds,
) {
  const { config, database, vault, onUnreadable, clock, databaseClock, audit, loadShedding, toDocuments } = platform
  const { clients, authenticateClient, certificateOf, validationContext } = ours
  clientSettingsEndpoint(app, endpoints.clientconfig, {
    authenticateClient,
    certificateOf,
    clients,
    validationContext,
    clock,
    audit,
  })
  const { mode, perHour } = config.registration
  if (mode === 'off') return
  registrationEndpoint(app, paths.registration, {
    issuer: config.issuer,
    policy: { mode, perHour },
    clients,
    operatorNames: createOperatorNames(createOperatorNameStore(database, onUnreadable), { database, clock }),
    registrations: createRegistrationStore(database),
    whileUnproven: loadShedding.whileUnproven,
    withFairShare: loadShedding.withFairShare,
    attempts: ours.registrationAttempts,
    attemptQueue: createFairQueue(1, clock),
    databaseClock,
    initialAccess: ours.initialAccess,
    validationContext,
    idTokenAlg: config.tokens.idTokenAlg,
    scopes: config.tokens.scopes,
    userCodes: hasUserCodes,
    mailed: config.email !== undefined,
    accepts: createAcceptance(provider, config.tokens),
    endings: endClient,
    sectorLists: createSectorLists({ caller: toDocuments, releaseSlotWhile: loadShedding.releaseSlotWhile, clock }),
    vault,
    clock,
    audit,
  })
}

/**
 * Returns the client metadata of the consent app. The consent app is an ordinary confidential client. Every node
 * derives the same client secret from the configured secret.
 */
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

/** The number of clients that the message of a `ProfileError` lists. The remaining clients are only counted. */
const mostListed = 20

/**
 * Resolves to whether the server will probably call a client, at its notification endpoint or for its keys. Reads the
 * clients page by page. If the security profile has no rules for clients, reads only the first page.
 *
 * @throws {ProfileError} if a client violates the profile. This can happen if the client was registered before the
 *   profile was configured. The consent app is not checked, because it is part of the server
 */
async function checkRegistered(clients: Pick<ClientStore, 'pages'>, profile: Profile): Promise<boolean> {
  let isAnyCalled = false
  let violating = 0
  const problems: string[] = []
  for await (const page of clients.pages()) {
    // In a full page of clients, the server probably has to call at least one client. So no further pages are read for
    // this purpose.
    isAnyCalled ||= page.length === clientPageSize || page.some(isCalled)
    if (!restrictsClients(profile)) break
    for (const { client } of page) {
      const violations = client.id === CONSENT_APP ? [] : profileViolations(client.metadata, profile)
      if (violations.length > 0) violating += 1
      if (violating <= mostListed) problems.push(...violations.map(({ message }) => `client ${client.id}: ${message}`))
    }
  }
  if (violating > 0) throw new ProfileError(problems, Math.max(0, violating - mostListed))
  return isAnyCalled
}

const isCalled = ({ client }: RegisteredClient) =>
  client.notificationEndpoint !== undefined || client.metadata.jwks_uri !== undefined
