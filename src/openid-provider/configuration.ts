/** The configuration of oidc-provider: features, clients, users, lifetimes. */
import { type Configuration, interactionPolicy, type KoaContextWithOIDC, type ResponseType } from 'oidc-provider'
import type { DetailTypes } from '../authorization-details/detail-types.ts'
import type { Resources } from '../authorization-details/resources.ts'
import { DECIDE_SCOPE } from '../client/metadata/client-metadata.ts'
import type { PairwiseSubjects } from '../client/pairwise/pairwise-subjects.ts'
import type { PermissionsOf } from '../client/permissions.ts'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Vault } from '../platform/crypto.ts'
import { basePathOf } from '../platform/http/base-path.ts'
import type { fetchThrough } from '../platform/http/fetch.ts'
import { isUnavailable } from '../platform/http/unavailable.ts'
import { chooseLanguage, type Texts } from '../platform/i18n/texts.ts'
import type { Log } from '../platform/log.ts'
import { pageHeaders, renderError } from '../platform/pages/pages.ts'
import type { Profile } from '../platform/security-profile.ts'
import { PASSKEY_ACR } from '../user/passkey/passkey-strength.ts'
import type { UserHooks } from '../user/user.ts'
import { authenticationContextOf } from './authentication-context.ts'
import { claimsByScope, claimsOf } from './claims.ts'
import { asOidcProviderSeesIt, type KnownClient, onlyWithGrants } from './client-view.ts'
import { loadGrant, storingConsent } from './consent.ts'
import { implementedMethods } from './discovery.ts'
import type { KnownTokens } from './known-tokens.ts'
import { createAdapterFactory } from './oidc-adapter.ts'
import { certificateOfForwarded } from './oidc-call.ts'
import { withPlaceholder } from './oidc-call-client.ts'
import type { MakeRoomForSession, OidcModelStore } from './oidc-model-store.ts'
import { cookieNames, paths } from './paths.ts'
import { resourceIndicators, richAuthorizationRequests } from './resource-servers.ts'
import type { SignInPlaces } from './sign-in-places.ts'
import { signInPolicy } from './sign-in-policy.ts'
import { signOutPages } from './sign-out-page.ts'
import type { SigningKeys } from './signing-keys/signing-keys.ts'
import { createNarrowModel } from './withdrawn-permissions.ts'

export interface AuthorizationServerNeeds {
  issuer: string
  development: boolean
  /** Whether DPoP proofs must contain a nonce (RFC 9449 §8), and the key that nonces are derived from: 32 bytes. */
  dpop: { requireNonce: boolean; nonceKey: Buffer }
  /** Whether this server can see client certificates: in its own TLS handshake, or in a header of a proxy. */
  seesCertificates: boolean
  /** The security profile. It restricts client authentication methods and signature algorithms. */
  profile: Profile
  tokens: { accessTtl: number; idTtl: number; refreshTtl: number; idTokenAlg: string; scopes: readonly string[] }
  /**
   * Lifetimes of a session in seconds: `idleTtl` since its last use, `absoluteTtl` since its user was authenticated.
   */
  sessions: { idleTtl: number; absoluteTtl: number }
  /** The resources that tokens can be issued for (RFC 8707). */
  resources: Resources
  /** The types of authorization details (RFC 9396). */
  details: DetailTypes
  /** The members that CIBA adds to the metadata document (CIBA Core §4). */
  cibaMetadata: Record<string, unknown>
  /** Algorithms that client assertions may be signed with. */
  assertionAlgorithms: readonly string[]
  keys: SigningKeys
  /** Seconds for which clients may cache our key set. */
  keySetMaxAge: number
  models: OidcModelStore
  /** Limits the number of unfinished sign-ins. */
  places: SignInPlaces
  knownTokens: KnownTokens
  /** Selects the sessions of a user that must end when a new session is stored and the user then has too many. */
  makeRoomForSession: MakeRoomForSession
  /** The client id of the consent app. */
  ownClient: string
  /**
   * Ends a session, its grants and its tokens, in one transaction.
   * @param cookies the `Cookie` header of the browser that has the session
   */
  endSession(providerSession: string, cookies: string | undefined): Promise<void>
  /** Resolves to a registered client, or undefined if the client does not exist. */
  findClient(id: string): Promise<KnownClient | undefined>
  /**
   * Resolves to the scopes, grants and resources that a client may use now, or to undefined if there is no such client.
   */
  permissionsOf: PermissionsOf
  findUser: UserHooks['find']
  pairwise: PairwiseSubjects
  /** Fetches addresses from client metadata (`jwks_uri`), with the same protection as all outgoing calls. */
  fetch: ReturnType<typeof fetchThrough>
  vault: Vault
  texts: Texts
  clock: Clock
  log: Log
  audit: Audit
  /**
   * The operator's own configuration of oidc-provider. Its values replace ours. `features`, `ttl` and `cookies` are
   * merged with ours member by member.
   */
  extra: Record<string, unknown>
}

/** Lifetime in seconds of an interaction after its user has signed in. */
const interactionTtl = 3600
/**
 * Lifetime in seconds of interactions and sessions in which no user has signed in. It is long enough for a user to look
 * up a password.
 */
const anonymousTtl = 600

/** Returns a function that returns the path of the first page of a sign-in. */
export const signInPageAt = (issuer: string) => (uid: string) => `${basePathOf(issuer)}/sign-in/${uid}`

/** Returns the whole configuration of oidc-provider. The operator's own settings override ours. */
export function configurationOf(needs: AuthorizationServerNeeds): Configuration {
  const { tokens, vault } = needs
  return withExtra(
    {
      adapter: adapterOf(needs),
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
      // oidc-provider accepts only clients whose authentication method is in this list. The list includes the methods
      // that the profile forbids, because the consent app, a part of this server, may use such a method.
      clientAuthMethods: implementedMethods(needs) as never,
      enabledJWA: {
        idTokenSigningAlgValues: [...needs.profile.idTokenSigning],
        clientAuthSigningAlgValues: [...needs.assertionAlgorithms] as never,
        dPoPSigningAlgValues: [...needs.profile.clientSigning] as never,
      },
      subjectTypes: ['public', 'pairwise'],
      pairwiseIdentifier: async (_ctx, userId, client) => {
        const known = await needs.findClient(client.clientId)
        return known === undefined ? userId : needs.pairwise.subjectFor(known.metadata, userId)
      },
      pkce: { required: () => true },
      features: featuresOf(needs),
      ttl: lifetimesOf(needs),
      // Refresh tokens of confidential clients are not rotated, because such a client authenticates at each refresh,
      // and would lose the new token if the response were lost.
      rotateRefreshToken: (ctx) => ctx.oidc.client?.clientAuthMethod === 'none',
      // The authentication context is stored with the access token, so that a decision that is made with this token can
      // record how the user was authenticated.
      extraTokenClaims: (ctx, token) => {
        const { AuthorizationCode, RefreshToken } = ctx?.oidc?.entities ?? {}
        const source = authenticationContextOf(token) ?? AuthorizationCode ?? RefreshToken
        return source && { auth_time: source.authTime, acr: source.acr, amr: source.amr }
      },
      // The consent app is part of this server, so users are not asked whether the app may have access.
      loadExistingGrant: (ctx) => loadGrant(ctx, needs.ownClient),
      interactions: { url: (_ctx, { uid }) => signInPageAt(needs.issuer)(uid), policy: signInPolicy() },
      cookies: {
        keys: [vault.key('cookies').toString('base64url')],
        names: cookieNames(needs.issuer),
      },
      fetch: needs.fetch as never,
      renderError: (ctx, out, error) => showError(ctx, out, error, needs.texts),
    },
    needs.extra,
  )
}

/** Returns the adapter through which oidc-provider reads and stores its models, and looks up clients. */
function adapterOf(needs: AuthorizationServerNeeds): Configuration['adapter'] {
  const { tokens, vault } = needs
  return createAdapterFactory({
    models: needs.models,
    narrow: createNarrowModel(needs.permissionsOf),
    places: needs.places,
    knownTokens: needs.knownTokens,
    makeRoomForSession: needs.makeRoomForSession,
    // The device flow (RFC 8628) needs sessions in which no user has signed in yet.
    keepsStrangers: isSwitchedOn(needs.extra, 'deviceFlow'),
    clock: needs.clock,
    vault,
    findClient: async (id) => {
      const client = await needs.findClient(id)
      if (client === undefined) return undefined
      const bound = needs.profile.boundTokensOnly && id !== needs.ownClient
      const seen = withPlaceholder(onlyWithGrants(asOidcProviderSeesIt(client, tokens, bound), tokens.scopes))
      // To oidc-provider, every client may use all types of authorization details. The types that this client may use
      // were checked when its authentication request was accepted, and a refresh can only select from the granted
      // details.
      return needs.details.names.length > 0 ? { ...seen, authorization_details_types: [...needs.details.names] } : seen
    },
  })
}

function featuresOf(needs: AuthorizationServerNeeds): Configuration['features'] {
  return {
    devInteractions: { enabled: false },
    // `oidc-call-dpop-proof.ts` has already checked the proof and its nonce. oidc-provider verifies the signature and
    // the binding. Our table of used proofs replaces the replay check of oidc-provider.
    dPoP: {
      enabled: true,
      nonceSecret: needs.dpop.nonceKey,
      requireNonce: () => false,
    },
    // oidc-provider enables pushed authorization requests by default. This server does not support them yet, so the
    // metadata document must not contain their endpoint.
    pushedAuthorizationRequests: { enabled: false },
    // Certificates are read in the same way as at our own endpoints. oidc-provider uses a certificate only to bind
    // tokens to it. A client that authenticates by certificate is authenticated before its call is forwarded to
    // oidc-provider.
    mTLS: {
      enabled: needs.seesCertificates,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => certificateOfForwarded(ctx.req)?.certificate,
      certificateAuthorized: () => false,
      certificateSubjectMatches: () => false,
    },
    userinfo: { enabled: true },
    introspection: {
      enabled: true,
      // A client may introspect its own tokens. A service (a client whose id is the audience of a token) may introspect
      // that token. In all other cases, the response is `active: false`. The response is the same if the user of the
      // token was removed or disabled.
      allowedPolicy: async (_ctx, client, token) =>
        [token.clientId, ...audienceOf(token)].includes(client.clientId) && (await isUserThere(token, needs)),
    },
    revocation: {
      enabled: true,
      // If a client sends a token of another client, the token stays valid, and the response is the same as for an
      // unknown token (RFC 7009 §2.2).
      allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
    },
    rpInitiatedLogout: signOutPages(needs),
    resourceIndicators: resourceIndicators(needs),
    richAuthorizationRequests: richAuthorizationRequests(needs) as never,
  }
}

/** Lifetimes in seconds. */
function lifetimesOf(needs: AuthorizationServerNeeds): Configuration['ttl'] {
  const { tokens } = needs
  return {
    AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? tokens.accessTtl,
    IdToken: tokens.idTtl,
    RefreshToken: tokens.refreshTtl,
    AuthorizationCode: 60,
    Grant: Math.max(tokens.refreshTtl, needs.sessions.absoluteTtl),
    Session: (_ctx, session) => (session.accountId === undefined ? anonymousTtl : sessionTtl(session, needs)),
    Interaction: (_ctx, { session }) => (session?.accountId === undefined ? anonymousTtl : interactionTtl),
  }
}

/**
 * Returns for how many seconds a session stays valid after it is used. This is `idleTtl`, or less if `absoluteTtl` ends
 * earlier. `absoluteTtl` starts when the user is authenticated, and starts again when the user is authenticated again.
 */
function sessionTtl(session: { loginTs?: number | undefined }, { sessions, clock }: AuthorizationServerNeeds): number {
  const now = Math.floor(clock.now() / 1000)
  const left = (session.loginTs ?? now) + sessions.absoluteTtl - now
  return Math.max(1, Math.min(sessions.idleTtl, left))
}

/** Resolves to false if the user of a token was removed or disabled. Such a token is not active (RFC 7662 §2.2). */
async function isUserThere(token: object, { findUser }: Pick<AuthorizationServerNeeds, 'findUser'>): Promise<boolean> {
  const { accountId } = token as { accountId?: string }
  if (accountId === undefined) return true
  const user = await findUser(accountId)
  return user !== null && !user.disabled
}

function audienceOf(token: object): string[] {
  return [(token as { aud?: string | string[] }).aud ?? []].flat()
}

/**
 * Merges the operator's configuration of oidc-provider into ours. An operator can change one feature, the lifetime of
 * one kind of token or the options of one kind of cookie. Our values of all others stay.
 */
function withExtra(own: Configuration, extra: Record<string, unknown>): Configuration {
  const { features, ttl, cookies, interactions = own.interactions } = extra as Configuration
  return {
    ...own,
    ...extra,
    features: { ...own.features, ...features } as NonNullable<Configuration['features']>,
    ttl: { ...own.ttl, ...ttl },
    interactions: {
      ...interactions,
      policy: storingConsent(interactions?.policy ?? interactionPolicy.base()) as never,
    },
    cookies: {
      ...own.cookies,
      ...cookies,
      names: { ...own.cookies?.names, ...cookies?.names },
      long: { ...own.cookies?.long, ...cookies?.long },
      short: { ...own.cookies?.short, ...cookies?.short },
    },
  }
}

function isSwitchedOn({ features }: Record<string, unknown>, name: string): boolean {
  return (features as Record<string, { enabled?: boolean } | undefined> | undefined)?.[name]?.enabled === true
}

/** Responds with an error page. It is shown to a user that a client has redirected to this server. */
function showError(ctx: KoaContextWithOIDC, out: ErrorOut, error: Error, texts: Texts): void {
  const lang = chooseLanguage(ctx.get('accept-language'))
  const say = texts.in(lang)
  ctx.set(pageHeaders)
  ctx.body = renderError({
    base: basePathOf(ctx.oidc.issuer),
    lang,
    say,
    title: say('error.title'),
    description: say(isUnavailable(error) ? 'error.away' : 'error.from_elsewhere'),
    // The error line on the page is for the developer of the client, so it is always in English.
    error: isUnavailable(error) ? undefined : [out.error, out.error_description].filter(Boolean).join(': '),
  })
}

interface ErrorOut {
  error: string
  error_description?: string | undefined
}
