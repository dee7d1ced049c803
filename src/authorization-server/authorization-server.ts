/**
 * Everything in OAuth and OpenID Connect that is not CIBA: oidc-provider, configured, on our database. Only its public
 * API is used.
 */
import type { EventEmitter } from 'node:events'
import {
  type AdapterPayload,
  type Configuration,
  errors,
  interactionPolicy,
  type KoaContextWithOIDC,
  Provider,
  type ResponseType,
} from 'oidc-provider'
import type { Audit } from '../audit.ts'
import type { DetailTypes } from '../authorization-details/detail-types.ts'
import { isBoundToCertificate } from '../client/certificate-binding.ts'
import { CIBA_GRANT, type ClientMetadata, DECIDE_SCOPE } from '../client/client-metadata.ts'
import { type SubjectMetadata, subjectMatches } from '../client-certificate/subject.ts'
import type { Clock } from '../clock.ts'
import { malformed } from '../http/answer.ts'
import type { fetchThrough } from '../http/fetch.ts'
import { isUnstorableForDatabase } from '../http/outside-text.ts'
import { isUnavailable, unavailable } from '../http/unavailable.ts'
import { chooseLanguage, type Texts } from '../i18n/texts.ts'
import type { Log } from '../log.ts'
import { pageHeaders, renderPage } from '../pages/pages.ts'
import { acceptsOnlyPasskey, PASSKEY_ACR } from '../passkey/passkey-strength.ts'
import type { Profile } from '../profile.ts'
import type { Resources } from '../resource/resources.ts'
import type { Vault } from '../secret.ts'
import { sameSecret } from '../secret.ts'
import type { User } from '../user-hint/user.ts'
import { certificateOfHandedOver } from './hand-over.ts'
import { markProofsInOneStep, wasProofWithheld } from './handed-over-proof.ts'
import { createAdapterFactory } from './oidc-adapter.ts'
import type { OidcModelStore } from './oidc-model-store.ts'
import type { PairwiseSubjects } from './pairwise-subjects.ts'
import { resourceIndicators, richAuthorizationRequests } from './resource-servers.ts'
import type { SignInPlaces } from './sign-in-places.ts'
import { endWholeSession, endWithoutSession, signOutPages } from './sign-out-page.ts'
import type { SigningKeyWatch } from './signing-key-watch.ts'
import type { SigningKeys } from './signing-keys.ts'
import { vouchedFor } from './vouched.ts'

export type { Provider }

/** The oidc-provider of the moment. Ask again for each request, and keep to one answer in it. */
export type CurrentProvider = () => Provider

export interface AuthorizationServerNeeds {
  issuer: string
  development: boolean
  /** Whether DPoP proofs have to hold a nonce, and what nonces are made from: 32 bytes. */
  dpop: { requireNonce: boolean; nonceKey: Buffer }
  /** Whether clients can show certificates: by TLS of our own, or through a proxy. */
  seesCertificates: boolean
  /** What the deployment keeps to: it narrows what is offered. */
  profile: Profile
  tokens: { accessTtl: number; idTtl: number; refreshTtl: number; idTokenAlg: string; scopes: readonly string[] }
  /** Seconds a session lives without being used, and after its user was authenticated. */
  sessions: { idleTtl: number; absoluteTtl: number }
  /** What tokens may be for (RFC 8707). */
  resources: Resources
  /** What may be asked for in detail (RFC 9396). */
  details: DetailTypes
  /** What only CIBA adds to the metadata document (MD-1). */
  cibaMetadata: Record<string, unknown>
  /** How client assertions may be signed. */
  assertionAlgorithms: readonly string[]
  /** What is wrong with one that was verified; nothing only once for each (CA-9). */
  acceptAssertion(assertion: { header: object; claims: object }, clientId: string): Promise<string | undefined>
  keys: SigningKeys
  /** Seconds that a fetched key set may be kept. */
  keySetMaxAge: number
  models: OidcModelStore
  /** For sign-ins that were begun. */
  places: SignInPlaces
  /** The client id of our own app. */
  ownClient: string
  /**
   * Ends all that hangs on a session, in one step.
   * @param cookies the `Cookie` header of the browser it is in
   */
  endSession(providerSession: string, cookies: string | undefined): Promise<void>
  /** A registered client, with what its secret is to be compared with. */
  findClient(id: string): Promise<KnownClient | undefined>
  findUser(id: string): Promise<User | null>
  pairwise: PairwiseSubjects
  /** How it fetches what clients name (`jwks_uri`): through the same guard as everything else. */
  fetch: ReturnType<typeof fetchThrough>
  vault: Vault
  texts: Texts
  clock: Clock
  log: Log
  audit: Audit
  /** Passed to oidc-provider last, as it is; `features` one by one. */
  extra: Record<string, unknown>
}

export interface KnownClient {
  metadata: ClientMetadata
  secretHash: string | undefined
  /** Only where the method needs it. */
  secret: string | undefined
}

/** The paths are Doorkeeper's. */
export const paths = {
  authorization: '/oauth/authorize',
  token: '/oauth/token',
  userinfo: '/oauth/userinfo',
  introspection: '/oauth/introspect',
  revocation: '/oauth/revoke',
  jwks: '/oauth/jwks',
  end_session: '/oauth/logout',
  registration: '/oauth/register',
} as const

/** How clients may authenticate themselves here at all. */
const authenticationMethods = [
  'client_secret_basic',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
  'none',
]

/** And these, where their certificates can be seen. */
const certificateMethods = ['tls_client_auth', 'self_signed_tls_client_auth']

/** Claims by the scope that brings them (OpenID Connect Core §5.4). */
const claims = {
  // How the user was authenticated is said whenever it is known, asked for or not, by refreshed ID tokens too (RT-3).
  openid: ['sub', 'acr', 'amr', 'auth_time'],
  profile: ['name', 'preferred_username', 'locale'],
  email: ['email', 'email_verified'],
  phone: ['phone_number', 'phone_number_verified'],
}

/** Seconds. */
const interactionTtl = 3600
/** As long as nobody has signed in, who it is for could be anybody: long enough for a password that has to be looked up. */
const strangersTtl = 600

function createAuthorizationServer(needs: AuthorizationServerNeeds): Provider {
  const { tokens, vault } = needs
  const accepted = [...authenticationMethods, ...(needs.seesCertificates ? certificateMethods : [])]
  const offered = needs.profile.clientAuthentication.filter((method) => accepted.includes(method))
  const configuration: Configuration = {
    adapter: createAdapterFactory({
      models: needs.models,
      places: needs.places,
      // Whoever has switched that on: there a browser in which nobody has signed in has to be known again.
      keepsStrangers: isSwitchedOn(needs.extra, 'deviceFlow'),
      clock: needs.clock,
      vault,
      findClient: async (id) => {
        const client = await needs.findClient(id)
        if (client === undefined) return undefined
        const bound = needs.profile.boundTokensOnly && id !== needs.ownClient
        const seen = onlyWithGrants(asOidcProviderSeesIt(client, tokens, bound), tokens.scopes)
        // Which types it may ask for was seen to when it rang; here it only takes of what it was granted.
        return needs.details.names.length > 0
          ? { ...seen, authorization_details_types: [...needs.details.names] }
          : seen
      },
    }),
    jwks: { keys: needs.keys.private as never },
    routes: paths,
    findAccount: async (_ctx, id) => {
      const user = await needs.findUser(id)
      if (user === null || user.disabled) return undefined
      return { accountId: user.id, claims: () => ({ sub: user.id, ...claimsOf(user) }) }
    },
    claims: claimsByScope(tokens.scopes),
    acrValues: [PASSKEY_ACR],
    scopes: [...tokens.scopes, DECIDE_SCOPE],
    responseTypes: ['code'] as ResponseType[],
    clientAuthMethods: accepted as never,
    enabledJWA: {
      idTokenSigningAlgValues: [...needs.profile.idTokenSigning],
      // The same as at the backchannel authentication endpoint (MD-3).
      clientAuthSigningAlgValues: [...needs.assertionAlgorithms] as never,
      dPoPSigningAlgValues: [...needs.profile.clientSigning] as never,
    },
    subjectTypes: ['public', 'pairwise'],
    pairwiseIdentifier: async (_ctx, userId, client) => {
      const known = await needs.findClient(client.clientId)
      return known === undefined ? userId : needs.pairwise.subjectFor(known.metadata, userId)
    },
    // Good once among our own endpoints and these. What oidc-provider remembers by itself it looks up first and writes then.
    assertJwtClientAuthClaimsAndHeader: async (_ctx, claims, header, client) => {
      const wrong = await needs.acceptAssertion({ header, claims }, client.clientId)
      if (wrong !== undefined) throw new errors.InvalidClientAuth(wrong)
    },
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      // The hand-over has checked the proof and its nonce. What is left to oidc-provider is the signature and the binding;
      // it asks whether the proof is new, and is told by the list of ours.
      dPoP: {
        enabled: true,
        nonceSecret: needs.dpop.nonceKey,
        requireNonce: () => false,
      },
      // On unless told otherwise; not in this version yet, so it is not promised in the metadata (MD-5).
      pushedAuthorizationRequests: { enabled: false },
      // The same certificates, seen and compared in the same way as at our own endpoints.
      mTLS: {
        enabled: needs.seesCertificates,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => certificateOfHandedOver(ctx.req)?.certificate,
        certificateAuthorized: (ctx) => certificateOfHandedOver(ctx.req)?.isTrusted === true,
        certificateSubjectMatches: (ctx, property, expected) => {
          const shown = certificateOfHandedOver(ctx.req)
          return shown !== undefined && subjectMatches(shown.certificate, property as SubjectMetadata, expected)
        },
      },
      userinfo: { enabled: true },
      introspection: {
        enabled: true,
        // A client learns about its own tokens, and a service about those that are for it: it is a client whose id is
        // the audience. About anybody else's they learn nothing (IN-6).
        allowedPolicy: async (_ctx, client, token) =>
          client.clientAuthMethod !== 'none' &&
          [token.clientId, ...audienceOf(token)].includes(client.clientId) &&
          (await isUserThere(token, needs)),
      },
      revocation: {
        enabled: true,
        // A foreign token is answered like an unknown one, and stays valid (RV-2).
        allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
      },
      rpInitiatedLogout: signOutPages(needs),
      resourceIndicators: resourceIndicators(needs),
      richAuthorizationRequests: richAuthorizationRequests(needs) as never,
    },
    ttl: {
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? tokens.accessTtl,
      IdToken: tokens.idTtl,
      RefreshToken: tokens.refreshTtl,
      AuthorizationCode: 60,
      Grant: Math.max(tokens.refreshTtl, needs.sessions.absoluteTtl),
      Session: (_ctx, session) => (session.accountId === undefined ? strangersTtl : sessionTtl(session, needs)),
      Interaction: (_ctx, { session }) => (session?.accountId === undefined ? strangersTtl : interactionTtl),
    },
    // Confidential clients prove themselves at each refresh; a token that changes is one more thing to lose (RT-5).
    rotateRefreshToken: (ctx) => ctx.oidc.client?.clientAuthMethod === 'none',
    // Kept with the token, so that a decision made with it can say how its user was authenticated.
    extraTokenClaims: (ctx, token) => {
      const { AuthorizationCode, RefreshToken } = ctx?.oidc?.entities ?? {}
      const source = vouchedFor(token) ?? AuthorizationCode ?? RefreshToken
      return source && { auth_time: source.authTime, acr: source.acr, amr: source.amr }
    },
    // Nobody has to allow our own app what it is there for.
    loadExistingGrant: (ctx) => loadGrant(ctx, needs.ownClient),
    interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}`, policy: signInPolicy() },
    cookies: {
      keys: [vault.key('cookies').toString('base64url')],
      names: cookieNames(needs.issuer),
    },
    discovery: {
      ...needs.cibaMetadata,
      // Our own app stands on both sides of its secret; nobody else is offered the method.
      token_endpoint_auth_methods_supported: offered,
    } as never,
    fetch: needs.fetch as never,
    renderError: (ctx, out, error) => {
      const lang = chooseLanguage(ctx.get('accept-language'))
      const say = needs.texts.in(lang)
      ctx.set(pageHeaders)
      ctx.body = renderPage('error', {
        lang,
        say,
        title: say('error.title'),
        description: say(isUnavailable(error) ? 'error.away' : 'error.from_elsewhere'),
        // For whoever sent the person here. It is English whatever the page is in.
        error: isUnavailable(error) ? undefined : [out.error, out.error_description].filter(Boolean).join(': '),
      })
    },
  }
  const provider = new Provider(needs.issuer, withExtra(configuration, needs.extra))
  // Its URLs are made from what the hand-over tells it: the issuer, whatever Host a caller claims.
  provider.proxy = true
  // It lists the grant (MD-2); requests with it never reach oidc-provider.
  provider.registerGrantType(CIBA_GRANT, () => {
    throw new Error('the CIBA grant is answered before oidc-provider')
  })
  answerNotFound(provider)
  endWithoutSession(provider)
  endWholeSession(provider, needs.endSession)
  readOnlyWhatWasAsked(provider)
  compareHashedSecrets(provider, vault)
  narrowKeySet(provider, needs)
  agreeAboutProofs(provider, needs.dpop)
  markProofsInOneStep(provider)
  reportErrors(provider, needs.log)
  reportTokens(provider, needs.audit)
  return provider
}

/**
 * The operator's configuration of oidc-provider over ours. Switching one feature on, or changing the life of one kind of
 * token or the options of one kind of cookie, leaves all others as they are (M49).
 */
function withExtra(own: Configuration, extra: Record<string, unknown>): Configuration {
  const { features, ttl, cookies } = extra as Configuration
  return {
    ...own,
    ...extra,
    features: { ...own.features, ...features } as NonNullable<Configuration['features']>,
    ttl: { ...own.ttl, ...ttl },
    cookies: {
      ...own.cookies,
      ...cookies,
      names: { ...own.cookies?.names, ...cookies?.names },
      long: { ...own.cookies?.long, ...cookies?.long },
      short: { ...own.cookies?.short, ...cookies?.short },
    },
  }
}

/**
 * oidc-provider takes its keys when it is made, so when they change another one takes its place. Requests under way end
 * where they began. All that it remembers is in the database, or made from the configuration.
 */
export function createCurrentProvider(
  keys: Pick<SigningKeyWatch, 'use'>,
  needs: Omit<AuthorizationServerNeeds, 'keys'>,
): CurrentProvider {
  let current: Provider
  keys.use((keys) => {
    current = createAuthorizationServer({ ...needs, keys })
  })
  return () => current
}

/**
 * Seconds a session lives on from this use: no longer than it may live since its user was authenticated, however often
 * it is used. Who authenticates again begins anew.
 */
function sessionTtl(session: { loginTs?: number | undefined }, { sessions, clock }: AuthorizationServerNeeds): number {
  const now = Math.floor(clock.now() / 1000)
  const left = (session.loginTs ?? now) + sessions.absoluteTtl - now
  return Math.max(1, Math.min(sessions.idleTtl, left))
}

/** Whether oidc-provider can work with a client that our own rules have let through; else what it says about it. */
export function createAcceptance(provider: CurrentProvider, tokens: TokenDefaults) {
  return async (client: { metadata: ClientMetadata; secretHash: string | undefined }): Promise<string | undefined> => {
    const seen = asOidcProviderSeesIt({ ...client, secret: undefined }, tokens, false)
    try {
      await provider().Client.validate(seen as never)
      return undefined
    } catch (error) {
      return (error as { error_description?: string }).error_description ?? 'these metadata cannot be used together'
    }
  }
}

async function loadGrant(
  ctx: KoaContextWithOIDC,
  ownClient: string,
): Promise<InstanceType<Provider['Grant']> | undefined> {
  const { session, client, provider, result, params } = ctx.oidc
  const clientId = client!.clientId
  const grantId = (result?.consent as { grantId?: string } | undefined)?.grantId ?? session?.grantIdFor(clientId)
  const existing = grantId === undefined ? undefined : await provider.Grant.find(grantId)
  if (clientId !== ownClient || existing !== undefined || session?.accountId === undefined) return existing
  const grant = new provider.Grant({ accountId: session.accountId, clientId })
  grant.addOIDCScope(String(params?.scope ?? ''))
  await grant.save()
  return grant
}

/**
 * oidc-provider's own, and: whoever signed in with a password is asked again where only a passkey will do, and a
 * browser that still knows somebody who is gone or disabled asks who is there.
 */
function signInPolicy(): interactionPolicy.DefaultPolicy {
  const { Check, base } = interactionPolicy
  const policy = base()
  policy.get('login')!.checks.add(
    new Check('account_gone', 'the user who was signed in cannot sign in any more', 'login_required', ({ oidc }) => {
      const gone = oidc.session?.accountId !== undefined && oidc.account === undefined
      return gone ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT
    }),
  )
  policy.get('login')!.checks.add(
    new Check('passkey_required', 'a sign-in with a passkey is required', 'login_required', ({ oidc }) => {
      const needed = acceptsOnlyPasskey(oidc.params?.acr_values) && oidc.acr !== PASSKEY_ACR
      return needed ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT
    }),
  )
  return policy
}

function isSwitchedOn({ features }: Record<string, unknown>, name: string): boolean {
  return (features as Record<string, { enabled?: boolean } | undefined> | undefined)?.[name]?.enabled === true
}

/**
 * With https no other host and no unprotected page can set the session's cookie (`__Host-`). The other two belong to
 * one sign-in each, by their path, which leaves them the weaker prefix.
 */
export function cookieNames(issuer: string) {
  const [host, secure] = issuer.startsWith('https:') ? ['__Host-', '__Secure-'] : ['', '']
  return {
    session: `${host}doorbell_session`,
    interaction: `${secure}doorbell_interaction`,
    resume: `${secure}doorbell_resume`,
  }
}

/** What counts for clients that do not say. */
type TokenDefaults = Pick<AuthorizationServerNeeds['tokens'], 'idTokenAlg' | 'scopes'>

/**
 * A client without its CIBA side, which is none of oidc-provider's business. Where only a hash of its secret is kept,
 * the hash stands in the secret's place and is compared as one (below).
 */
export function asOidcProviderSeesIt(
  { metadata, secret, secretHash }: KnownClient,
  { idTokenAlg, scopes }: TokenDefaults,
  boundTokens: boolean,
): AdapterPayload {
  const {
    backchannel_token_delivery_mode,
    backchannel_authentication_request_signing_alg,
    backchannel_client_notification_endpoint,
    backchannel_device_service,
    backchannel_require_passkey,
    backchannel_user_code_parameter,
    backchannel_allowed_hints,
    backchannel_unknown_users,
    sector_identifier_uri,
    authorization_details_types,
    limits,
    ...rest
  } = metadata
  return {
    id_token_signed_response_alg: idTokenAlg,
    // Deciding is for clients that were registered for it by name, not for whoever may ask for everything.
    scope: scopes.join(' '),
    // A copy of its own, which it writes into: to each key it adds what it has found out.
    ...structuredClone(rest),
    ...(boundTokens &&
      isBoundToCertificate({ metadata }, true) && { tls_client_certificate_bound_access_tokens: true }),
    grant_types: metadata.grant_types.filter((grant) => grant !== CIBA_GRANT),
    client_secret: secret ?? secretHash,
  } as AdapterPayload
}

/** Where nobody can ask for refresh tokens, oidc-provider does not know a client that might. It gets the rest. */
function onlyWithGrants(client: AdapterPayload, scopes: readonly string[]): AdapterPayload {
  if (scopes.includes('offline_access')) return client
  return { ...client, grant_types: (client.grant_types as string[]).filter((grant) => grant !== 'refresh_token') }
}

/** What is at none of its addresses, oidc-provider leaves without a word of its own. */
function answerNotFound(provider: Provider): void {
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.status !== 404 || ctx.body !== undefined) return
    // Setting a body makes it a 200.
    ctx.body = { error: 'not_found', error_description: 'there is nothing at this address' }
    ctx.status = 404
    ctx.set('Cache-Control', 'no-store')
  })
}

/**
 * Where a user comes back from signing in, an authorization request goes on that was read before. A query there means
 * nothing, and oidc-provider fails when it has an error to tell and the query names a client.
 */
function readOnlyWhatWasAsked(provider: Provider): void {
  provider.use(async (ctx, next) => {
    if (ctx.path.startsWith(`${paths.authorization}/`)) ctx.search = ''
    await next()
  })
}

/** oidc-provider would compare what a client sends with what is kept; we keep a keyed hash, so the hashes are compared. */
function compareHashedSecrets(provider: Provider, vault: Vault): void {
  const prototype = provider.Client.prototype as { compareClientSecret(actual: string): boolean }
  prototype.compareClientSecret = function compareClientSecret(this: { clientSecret?: string }, actual) {
    return sameSecret(vault.keyedHash(actual), this.clientSecret ?? '')
  }
}

/** Keys that only verify hints are oidc-provider's to know, but no client's. Other keys, of the operator's own, stay. */
function narrowKeySet(provider: Provider, { keys, keySetMaxAge }: AuthorizationServerNeeds): void {
  const published = new Set(keys.published.map(({ kid }) => kid))
  const hidden = new Set(keys.public.map(({ kid }) => kid).filter((kid) => !published.has(kid)))
  provider.use(async (ctx, next) => {
    await next()
    if (ctx.oidc?.route !== 'jwks' || ctx.status !== 200) return
    const { keys } = ctx.body as { keys: { kid: string }[] }
    ctx.body = { keys: keys.filter(({ kid }) => !hidden.has(kid)) }
    ctx.set('Cache-Control', `public, max-age=${keySetMaxAge}`)
  })
}

/** Where oidc-provider answers otherwise than our own endpoints: nonces nobody has asked for, and a missing proof. */
function agreeAboutProofs(provider: Provider, { requireNonce }: AuthorizationServerNeeds['dpop']): void {
  provider.use(async (ctx, next) => {
    await next()
    if (!requireNonce) ctx.remove('DPoP-Nonce')
    const { client, route } = (ctx as KoaContextWithOIDC).oidc ?? {}
    const isMissing = ctx.get('DPoP') === '' && !wasProofWithheld(ctx.req)
    const lacksProof = route === 'token' && client?.dpopBoundAccessTokens === true && isMissing
    if (lacksProof && (ctx.body as { error?: string } | undefined)?.error === 'invalid_grant') {
      ctx.body = { error: 'invalid_dpop_proof', error_description: 'this client has to send a DPoP proof' }
    }
  })
}

/** A token of a user who is gone or disabled is not active (RFC 7662 §2.2). */
async function isUserThere(token: object, { findUser }: Pick<AuthorizationServerNeeds, 'findUser'>): Promise<boolean> {
  const { accountId } = token as { accountId?: string }
  if (accountId === undefined) return true
  const user = await findUser(accountId)
  // A hook in plain JavaScript may well answer undefined.
  return Boolean(user) && !user!.disabled
}

function audienceOf(token: object): string[] {
  return [(token as { aud?: string | string[] }).aud ?? []].flat()
}

function claimsByScope(scopes: readonly string[]): Record<string, string[]> {
  return Object.fromEntries(Object.entries(claims).filter(([scope]) => scopes.includes(scope)))
}

/** What may be told of a user, by scope. */
export function claimsOf(user: User): Record<string, unknown> {
  return {
    ...user.claims,
    name: user.name,
    preferred_username: user.username,
    locale: user.locale,
    email: user.email,
    phone_number: user.phone_number,
  }
}

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

function reportErrors(provider: Provider, log: Log): void {
  for (const what of clientErrors) {
    // The event names are known to the types one by one, but not as a union.
    const emitter: EventEmitter = provider
    emitter.on(`${what}.error`, (_ctx: unknown, error: Error & { error_detail?: string }) => {
      log.info({ event: 'oidc.refused', endpoint: what, code: error.message, detail: error.error_detail })
    })
  }
  // Else Koa writes it to standard error by itself, past the log: ten lines for each answer whose connection is gone.
  const koa: EventEmitter = provider
  koa.on('error', (error: Error & { code?: string }) => {
    const isLost = lostConnection.has(error.code ?? '')
    log[isLost ? 'debug' : 'error']({ event: isLost ? 'oidc.hung_up' : 'oidc.failed', error })
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
    // A page stays one.
    if (typeof ctx.body === 'object') ctx.body = unavailable.body
  })
}

/** Tokens of the other grants: of a sign-in, and refreshed ones. */
function reportTokens(provider: Provider, audit: Audit): void {
  provider.on('grant.success', ({ oidc }) => {
    const { client, params, entities } = oidc
    const by = String(params?.grant_type)
    audit({ event: 'tokens.issued', client: client?.clientId, user: entities.Account?.accountId, by })
  })
}
