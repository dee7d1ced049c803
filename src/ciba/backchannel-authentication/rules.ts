/** What a request must be like: every rule, in the order in which they apply (CIBA Core §7.2). */
import type { AuthorizationDetail, DetailTypes } from '../../authorization-details/detail-types.ts'
import { areDetails } from '../../authorization-details/read-details.ts'
import { isResourceAddress, knows, type Resources } from '../../authorization-details/resources.ts'
import { type Client, mayAskFor, mayHintBy, mayInitiate } from '../../client/client.ts'
import { DECIDE_SCOPE } from '../../client/metadata/client-metadata.ts'
import { looksLikeALink } from '../../client/metadata/link-like.ts'
import { OAuthError, type OAuthErrorCode } from '../../platform/oauth-error.ts'
import type { Rule } from '../../platform/rule.ts'
import { isPlain } from '../../platform/validation.ts'
import { isNumberToMatch } from '../authentication-request/authentication-request.ts'
import type { Asked } from './parameters.ts'

export interface RequestPolicy {
  scopes: readonly string[]
  /** Characters. */
  maxBindingMessageLength: number
  /** Whether binding messages stand in mails, where what looks like a link becomes one. */
  mailed: boolean
  /** Whether requests have to be signed, whatever their client registered (FC-7). */
  requireSigned: boolean
  /** Whether a request must say what it is about, so that the user can tell it from another (FC-3). */
  requireContext: boolean
  /** Whether every binding message has to be a number that the user picks among others. */
  requireNumber: boolean
  /** What may be asked for in detail (RFC 9396). */
  details: DetailTypes
  /** What tokens may be for (RFC 8707). */
  resources: Resources
}

/** What a request is checked against: the client that sends it, and what this server allows. */
interface RequestContext {
  client: Client
  policy: RequestPolicy
}

/** `settings` are members of `Asked`. The message is the `error_description`. */
export interface RequestRule extends Rule<Asked, RequestContext, keyof Asked> {
  error: OAuthErrorCode
  message: string
}

/**
 * The client has been authenticated before the first of these, so a stranger learns nothing here; and the user is
 * looked up after the last, so a malformed request cannot be used to probe which users exist.
 */
export const rules = {
  // Before the parameters are looked at: unsigned, anybody on the way may have written them.
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
    // The scope with which a user's device decides is never given to a client that rings (M1).
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
  // We call this client back, so it must tell us how to prove that it is us.
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
  bindingMessageFits: {
    settings: ['bindingMessage'],
    requires: (asked, { policy }) =>
      asked.bindingMessage === undefined || [...asked.bindingMessage].length <= policy.maxBindingMessageLength,
    error: 'invalid_binding_message',
    message: 'binding_message is too long for a user to compare',
  },
  // The user compares it letter by letter: nothing in it may be invisible or change the direction of the rest (CD-7).
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
  // Else a client could spare its users the choice by choosing its words (CD-8).
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
    requires: (asked, { policy }) => asked.resources.every((address) => knows(policy.resources, String(address))),
    error: 'invalid_target',
    message: 'resource is not one that this provider issues tokens for',
  },
} satisfies Record<string, RequestRule>

/** Before its request is even read: whoever may not ask learns nothing about what was asked (VL-9). */
export function refuseUnlessItMayRing(client: Client): void {
  if (mayInitiate(client)) return
  throw new OAuthError('unauthorized_client', 'this client is not registered for backchannel authentication')
}

/** The details, of a request whose details are a list. */
export function detailsOf({ authorizationDetails }: Asked): AuthorizationDetail[] {
  return (authorizationDetails ?? []) as AuthorizationDetail[]
}

/** A client that registered an algorithm has said that all its requests are signed (RG-5, RG-7). */
function isRegisteredToSign({ metadata }: Client): boolean {
  return metadata.backchannel_authentication_request_signing_alg !== undefined
}

/** @throws {OAuthError} of the first rule that does not hold */
export function refuseUnlessAllowed(asked: Asked, client: Client, policy: RequestPolicy): void {
  const context = { client, policy }
  for (const [name, { requires, error, message }] of Object.entries<RequestRule>(rules)) {
    if (!requires(asked, context)) throw new OAuthError(error, message, { detail: `${name} (${client.id})` })
  }
}

/** No control, format (zero width, direction), surrogate or line separating characters, and something to see. */
function isPlainLine(text: string): boolean {
  return !/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u.test(text) && /\S/.test(text)
}
