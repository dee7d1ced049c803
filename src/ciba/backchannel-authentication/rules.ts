/** The rules for authentication requests, in the order in which they are checked (CIBA Core §7.2). */
import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import { areDetails } from '../../authorization-details/read-details.ts'
import { configuredAddress, isResourceAddress, type Resources } from '../../authorization-details/resources.ts'
import { type Client, mayAskFor, mayHintBy, mayInitiate } from '../../client/client.ts'
import { DECIDE_SCOPE } from '../../client/metadata/client-metadata.ts'
import { looksLikeALink } from '../../client/metadata/link-like.ts'
import type { Rule } from '../../platform/input-rule.ts'
import { OAuthError, type OAuthErrorCode } from '../../platform/oauth-error.ts'
import { isPlain } from '../../platform/validation.ts'
import { isNumberToMatch } from '../authentication-request/authentication-request.ts'
import { areClaims, haveUsableValues, type ScopesOfClaims } from '../authentication-request/requested-claims.ts'
import type { Asked } from './parameters.ts'

export interface RequestPolicy {
  scopes: readonly string[]
  /** Maximum length, in characters. */
  maxBindingMessageLength: number
  /**
   * Whether binding messages are mailed to users. Then they must not look like links, because mail programs make such
   * texts clickable.
   */
  mailed: boolean
  /** Whether all requests must be signed, even if the client has not registered a request signing algorithm. */
  requireSigned: boolean
  /**
   * Whether a request must have a binding message or details, so that the user can distinguish it from other requests.
   */
  requireContext: boolean
  /** Whether every binding message must be a number, which the user picks among other numbers. */
  requireNumber: boolean
  /** The declared types of authorization details (RFC 9396). */
  details: DetailTypes
  /** The resources that tokens may be for (RFC 8707). */
  resources: Resources
  /** The claims that this server can supply. */
  claims: ScopesOfClaims
}

/** What a request is checked against: its client, and the policy of this server. */
interface RequestContext {
  client: Client
  policy: RequestPolicy
}

/** `settings` names the members of `Asked` that the rule checks. `message` is returned as `error_description`. */
export interface RequestRule extends Rule<Asked, RequestContext, keyof Asked> {
  error: OAuthErrorCode
  message: string
}

/**
 * The client is authenticated before the first rule, so no rule reveals anything to an unauthenticated caller. The user
 * is looked up after the last rule, so a malformed request cannot be used to find out which users exist.
 */
export const rules = {
  // This rule comes first, because an attacker may have changed the parameters of an unsigned request on the way.
  signedWhereItMustBe: {
    settings: ['signedRequest'],
    requires: (asked, { client, policy }) =>
      asked.signedRequest !== undefined || !(policy.requireSigned || isRegisteredToSign(client)),
    error: 'invalid_request',
    message: 'this client must send signed requests, with all parameters in the JWT named "request"',
  },
  scopeIsThere: {
    settings: ['scope'],
    requires: (asked) => asked.scope !== undefined,
    error: 'invalid_request',
    message: 'scope is missing',
  },
  scopeIsWellFormed: {
    settings: ['scope'],
    requires: (asked) => /^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/.test(asked.scope!),
    error: 'invalid_scope',
    message: 'scope must be a list of scope tokens separated by single spaces',
  },
  scopeIncludesOpenid: {
    settings: ['scope'],
    requires: (asked) => asked.scope!.split(' ').includes('openid'),
    error: 'invalid_scope',
    message: 'scope must include openid',
  },
  scopesAreAllowed: {
    settings: ['scope'],
    // DECIDE_SCOPE allows a user's device to decide requests. A CIBA client never gets this scope.
    requires: (asked, { client, policy }) =>
      asked.scope!.split(' ').every((scope) => scope !== DECIDE_SCOPE && mayAskFor(scope, client, policy.scopes)),
    error: 'invalid_scope',
    message: 'scope includes a value that this client may not request',
  },
  exactlyOneHint: {
    settings: ['hints'],
    requires: (asked) => asked.hints.length === 1,
    error: 'invalid_request',
    message: 'send exactly one of login_hint, id_token_hint, login_hint_token',
  },
  hintIsAllowed: {
    settings: ['hints'],
    requires: (asked, { client }) => mayHintBy(client, asked.hints[0]!.kind),
    error: 'invalid_request',
    message: 'this client may not use this kind of hint',
  },
  // At the client notification endpoint, this server authenticates with the `client_notification_token`.
  tokenWhenWeCallBack: {
    settings: ['notificationToken'],
    requires: (asked, { client }) => client.deliveryMode === 'poll' || asked.notificationToken !== undefined,
    error: 'invalid_request',
    message: 'client_notification_token is missing: the client is registered for ping or push',
  },
  tokenFitsTheHeader: {
    settings: ['notificationToken'],
    requires: (asked, { client }) =>
      client.deliveryMode === 'poll' ||
      (asked.notificationToken!.length <= 1024 && /^[A-Za-z0-9\-._~+/]+=*$/.test(asked.notificationToken!)),
    error: 'invalid_request',
    message: 'client_notification_token must be a bearer token of at most 1024 characters',
  },
  acrValuesAreAList: {
    settings: ['acrValues'],
    requires: (asked) => asked.acrValues === undefined || /^[\x21-\x7e]+( [\x21-\x7e]+)*$/.test(asked.acrValues),
    error: 'invalid_request',
    message: 'acr_values must be a list of values separated by single spaces',
  },
  claimsAreObjects: {
    settings: ['claims'],
    requires: (asked) => asked.claims === undefined || areClaims(asked.claims),
    error: 'invalid_request',
    message: 'claims must be a JSON object with id_token or userinfo, each an object of at most 50 claims',
  },
  claimValuesAreTexts: {
    settings: ['claims'],
    requires: (asked) => !areClaims(asked.claims) || haveUsableValues(asked.claims),
    error: 'invalid_request',
    message:
      'in claims, value and values of acr must be printable ASCII without spaces, quotes and backslashes, ' +
      'at most 1024 characters in all; those of sub must be strings',
  },
  bindingMessageFits: {
    settings: ['bindingMessage'],
    requires: (asked, { policy }) =>
      asked.bindingMessage === undefined || [...asked.bindingMessage].length <= policy.maxBindingMessageLength,
    error: 'invalid_binding_message',
    message: 'binding_message is too long for a user to compare',
  },
  // The user compares each character, so no character may be invisible or change the writing direction.
  bindingMessageCanBeShown: {
    settings: ['bindingMessage'],
    requires: (asked) => asked.bindingMessage === undefined || isPlainLine(asked.bindingMessage),
    error: 'invalid_binding_message',
    message: 'binding_message must be one line of visible text',
  },
  bindingMessageIsNoLink: {
    settings: ['bindingMessage'],
    requires: (asked, { policy }) =>
      !policy.mailed || asked.bindingMessage === undefined || !looksLikeALink(asked.bindingMessage),
    error: 'invalid_binding_message',
    message: 'binding_message must not look like a link: it is mailed to the user',
  },
  // Without this rule, a client could avoid number matching by sending a text that is not a number.
  numberCanBeMatched: {
    settings: ['bindingMessage'],
    requires: (asked, { policy }) => !policy.requireNumber || isNumberToMatch(asked.bindingMessage),
    error: 'invalid_binding_message',
    message: 'binding_message must be a number of two to six digits: the user picks it among others',
  },
  contextIsUnique: {
    settings: ['bindingMessage', 'authorizationDetails'],
    requires: (asked, { policy }) =>
      !policy.requireContext || asked.bindingMessage !== undefined || asked.authorizationDetails !== undefined,
    error: 'invalid_request',
    message: 'binding_message or authorization_details is missing: the request must say what it is about',
  },
  requestedExpiryIsPositive: {
    settings: ['requestedExpiry'],
    requires: (asked) =>
      asked.requestedExpiry === undefined ||
      (/^[1-9]\d{0,15}$/.test(asked.requestedExpiry) && Number.isSafeInteger(Number(asked.requestedExpiry))),
    error: 'invalid_request',
    message: 'requested_expiry must be a positive whole number of seconds',
  },
  requestContextIsAnObject: {
    settings: ['requestContext'],
    requires: (asked) => asked.requestContext === undefined || isPlain(asked.requestContext),
    error: 'invalid_request',
    message: 'request_context must be a JSON object',
  },
  detailsAreAList: {
    settings: ['authorizationDetails'],
    requires: (asked) => asked.authorizationDetails === undefined || areDetails(asked.authorizationDetails),
    error: 'invalid_authorization_details',
    message:
      'authorization_details must be a JSON array of 1 to 20 objects with a type, not deeply nested, of at most 16 KiB',
  },
  detailTypesAreAllowed: {
    settings: ['authorizationDetails'],
    requires: (asked, { client, policy }) => {
      const allowed = client.metadata.authorization_details_types ?? policy.details.names
      return detailsOf(asked).every(({ type }) => policy.details.names.includes(type) && allowed.includes(type))
    },
    error: 'invalid_authorization_details',
    message: 'authorization_details has a type that this client may not use',
  },
  detailsFitTheirTypes: {
    settings: ['authorizationDetails'],
    requires: (asked, { policy }) => detailsOf(asked).every(policy.details.fits),
    error: 'invalid_authorization_details',
    message: 'authorization_details has fields that are missing, unknown, or invalid for their type',
  },
  resourcesAreAddresses: {
    settings: ['resources'],
    requires: (asked) => asked.resources.every(isResourceAddress),
    error: 'invalid_target',
    message: 'resource must be an absolute URI without a fragment',
  },
  resourcesAreKnown: {
    settings: ['resources'],
    requires: (asked, { policy }) =>
      asked.resources.every((address) => configuredAddress(policy.resources, String(address)) !== undefined),
    error: 'invalid_target',
    message: 'resource is not one that this provider issues tokens for',
  },
} satisfies Record<string, RequestRule>

/**
 * Refuses a client that is not registered for backchannel authentication. Called before the request is read, so that
 * such a client always gets this error.
 * @throws {OAuthError} `unauthorized_client`
 */
export function refuseUnlessMayInitiate(client: Client): void {
  if (mayInitiate(client)) return
  throw new OAuthError('unauthorized_client', 'this client is not registered for backchannel authentication')
}

/** Returns the authorization details of a request. Call it only if `authorizationDetails` is a list or undefined. */
export function detailsOf({ authorizationDetails }: Asked): AuthorizationDetail[] {
  return (authorizationDetails ?? []) as AuthorizationDetail[]
}

/**
 * Whether the client may request a claim by its name. The server must be able to supply the claim. If scopes contain
 * the claim, the client must be allowed to request one of these scopes.
 */
export function mayRequestClaim(claim: string, client: Client, policy: RequestPolicy): boolean {
  const scopes = policy.claims.get(claim)
  if (scopes === undefined) return false
  return scopes.length === 0 || scopes.some((scope) => mayAskFor(scope, client, policy.scopes))
}

/** Whether the client must sign all its requests, because it has registered a request signing algorithm (CIBA §4). */
function isRegisteredToSign({ metadata }: Client): boolean {
  return metadata.backchannel_authentication_request_signing_alg !== undefined
}

/**
 * Checks a request against all rules.
 * @throws {OAuthError} the error of the first rule that is violated
 */
export function refuseUnlessAllowed(asked: Asked, client: Client, policy: RequestPolicy): void {
  const context = { client, policy }
  for (const [name, { requires, error, message }] of Object.entries<RequestRule>(rules)) {
    if (!requires(asked, context)) throw new OAuthError(error, message, { detail: `${name} (${client.id})` })
  }
}

/**
 * Whether a text is visible and on one line: not only spaces, and no control, format (zero width, direction),
 * surrogate, private-use, unassigned or line-separating characters.
 */
function isPlainLine(text: string): boolean {
  return !/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u.test(text) && /\S/.test(text)
}
