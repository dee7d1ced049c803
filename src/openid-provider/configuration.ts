/** What oidc-provider is told: which features there are, who clients and users are, how long things live. */
import { type Configuration, errors, type KoaContextWithOIDC, type ResponseType } from 'oidc-provider'
import type { DetailTypes } from '../authorization-details/detail-types.ts'
import type { Resources } from '../authorization-details/resources.ts'
import type { AcceptAssertion } from '../client/authentication/client-assertion.ts'
import { type SubjectMetadata, subjectMatches } from '../client/certificate/subject-name.ts'
import { DECIDE_SCOPE } from '../client/metadata/client-metadata.ts'
import type { PairwiseSubjects } from '../client/pairwise/pairwise-subjects.ts'
import type { Audit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import type { Vault } from '../platform/crypto.ts'
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
import { certificateOfHandedOver } from './forward-request.ts'
import { createAdapterFactory } from './oidc-adapter.ts'
import type { OidcModelStore } from './oidc-model-store.ts'
import { cookieNames, paths } from './paths.ts'
import { resourceIndicators, richAuthorizationRequests } from './resource-servers.ts'
import type { SignInPlaces } from './sign-in-places.ts'
import { loadGrant, signInPolicy } from './sign-in-policy.ts'
import { signOutPages } from './sign-out-page.ts'
import type { SigningKeys } from './signing-keys/signing-keys.ts'

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
  acceptAssertion: AcceptAssertion
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
  findUser: UserHooks['find']
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

/** Seconds. */
const interactionTtl = 3600
/** As long as nobody has signed in, who it is for could be anybody: long enough for a password that has to be looked up. */
const strangersTtl = 600

/** All that oidc-provider is told. */
export function configurationOf(needs: AuthorizationServerNeeds): Configuration {
  const { tokens, vault } = needs
  const accepted = [...authenticationMethods, ...(needs.seesCertificates ? certificateMethods : [])]
  const offered = needs.profile.clientAuthentication.filter((method) => accepted.includes(method))
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
      features: featuresOf(needs),
      ttl: livesOf(needs),
      // Confidential clients prove themselves at each refresh; a token that changes is one more thing to lose (RT-5).
      rotateRefreshToken: (ctx) => ctx.oidc.client?.clientAuthMethod === 'none',
      // Kept with the token, so that a decision made with it can say how its user was authenticated.
      extraTokenClaims: (ctx, token) => {
        const { AuthorizationCode, RefreshToken } = ctx?.oidc?.entities ?? {}
        const source = authenticationContextOf(token) ?? AuthorizationCode ?? RefreshToken
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
      renderError: (ctx, out, error) => showError(ctx, out, error, needs.texts),
    },
    needs.extra,
  )
}

/** How it finds clients and keeps what is its own. */
function adapterOf(needs: AuthorizationServerNeeds): Configuration['adapter'] {
  const { tokens, vault } = needs
  return createAdapterFactory({
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
      return needs.details.names.length > 0 ? { ...seen, authorization_details_types: [...needs.details.names] } : seen
    },
  })
}

function featuresOf(needs: AuthorizationServerNeeds): Configuration['features'] {
  return {
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
  }
}

/** Seconds. */
function livesOf(needs: AuthorizationServerNeeds): Configuration['ttl'] {
  const { tokens } = needs
  return {
    AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? tokens.accessTtl,
    IdToken: tokens.idTtl,
    RefreshToken: tokens.refreshTtl,
    AuthorizationCode: 60,
    Grant: Math.max(tokens.refreshTtl, needs.sessions.absoluteTtl),
    Session: (_ctx, session) => (session.accountId === undefined ? strangersTtl : sessionTtl(session, needs)),
    Interaction: (_ctx, { session }) => (session?.accountId === undefined ? strangersTtl : interactionTtl),
  }
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

function isSwitchedOn({ features }: Record<string, unknown>, name: string): boolean {
  return (features as Record<string, { enabled?: boolean } | undefined> | undefined)?.[name]?.enabled === true
}

/** What a person sees of an error of a sign-in that a client began. */
function showError(ctx: KoaContextWithOIDC, out: ErrorOut, error: Error, texts: Texts): void {
  const lang = chooseLanguage(ctx.get('accept-language'))
  const say = texts.in(lang)
  ctx.set(pageHeaders)
  ctx.body = renderError({
    lang,
    say,
    title: say('error.title'),
    description: say(isUnavailable(error) ? 'error.away' : 'error.from_elsewhere'),
    // For whoever sent the person here. It is English whatever the page is in.
    error: isUnavailable(error) ? undefined : [out.error, out.error_description].filter(Boolean).join(': '),
  })
}

interface ErrorOut {
  error: string
  error_description?: string | undefined
}
