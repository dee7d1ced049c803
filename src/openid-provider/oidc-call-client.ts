/**
 * Authenticates the client of a call before the call is forwarded to oidc-provider, by the same code as at our own
 * endpoints. oidc-provider then gets the call without the client's own credentials. To oidc-provider, every
 * confidential client uses `client_secret_basic`, and its secret is right if and only if this code has authenticated
 * the call.
 */
import { type AdapterPayload, Provider } from 'oidc-provider'
import { subjectMetadata } from '../client/certificate/subject-name.ts'
import type { AuthenticateClient, ClientCredentials } from '../client/client.ts'
import { providerPath } from './oidc-call-endpoint.ts'
import type { CurrentProvider } from './openid-provider.ts'

/**
 * The endpoints of oidc-provider at which clients authenticate. The last two exist only if an operator has enabled
 * them.
 */
const routes = ['token', 'introspection', 'revocation', 'pushed_authorization_request', 'device_authorization']

/** The endpoints that public clients must not call: only authorized callers may introspect (RFC 7662 §2.1). */
const confidentialOnly = ['introspection']

/** The client of a forwarded call. */
export interface ForwardedClient {
  id: string
  /** Whether the call contains only a `client_id`. If so, nothing proves that the call comes from this client. */
  isPublic: boolean
}

/** Resolves to the client of a call. @throws {OAuthError} */
export type AuthenticateForwarded = (
  route: string,
  credentials: Omit<ClientCredentials, 'mayBePublic'>,
) => Promise<ForwardedClient>

/** Returns the name of the endpoint at a path, or undefined if clients do not authenticate at this path. */
export function authenticatingRouteAt(path: string, provider: CurrentProvider): string | undefined {
  return routes.find((route) => providerPath(provider(), route) === path)
}

/** Returns the function that authenticates the client of a call that is going to be forwarded. */
export function createAuthenticateForwarded(authenticateClient: AuthenticateClient): AuthenticateForwarded {
  return async (route, credentials) => {
    const mayBePublic = !confidentialOnly.includes(route)
    const { id, metadata } = await authenticateClient({ ...credentials, mayBePublic })
    return { id, isPublic: metadata.token_endpoint_auth_method === 'none' }
  }
}

/** The members of a form that contain credentials of a client. */
const credentialMembers = ['client_secret', 'client_assertion', 'client_assertion_type']

/**
 * The value that oidc-provider gets as the secret of every confidential client. This value may be public, because it is
 * never compared (`trustOurAuthentication`).
 */
const placeholder = 'authenticated-by-doorbell'

/**
 * Returns the body without the client's own credentials, and headers that tell oidc-provider which client was
 * authenticated, in the form of `client_secret_basic`.
 */
export function withoutCredentials(clientId: string, body: Buffer): { headers: Record<string, string>; body: Buffer } {
  const form = new URLSearchParams(body.toString('utf8'))
  for (const name of credentialMembers) form.delete(name)
  const left = Buffer.from(form.toString())
  const credentials = [clientId, placeholder].map(encodeURIComponent).join(':')
  return {
    headers: {
      authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
      'content-length': String(left.length),
    },
    body: left,
  }
}

/**
 * Returns a client as oidc-provider gets it. A confidential client is registered for `client_secret_basic` with the
 * placeholder as its secret. Other members for client authentication are left out.
 */
export function withPlaceholder(client: AdapterPayload): AdapterPayload {
  if (client.token_endpoint_auth_method === 'none') return client
  const rest = { ...client }
  for (const name of ['token_endpoint_auth_signing_alg', ...subjectMetadata]) delete rest[name]
  return { ...rest, token_endpoint_auth_method: 'client_secret_basic', client_secret: placeholder }
}

const authenticated = new WeakMap<object, string>()

/** Remembers which client was authenticated for a forwarded call. */
export function rememberClient(request: object, clientId: string | undefined): void {
  if (clientId !== undefined) authenticated.set(request, clientId)
}

/**
 * Makes oidc-provider accept the secret of a client if and only if this client was authenticated for the current call.
 * So a call that reaches oidc-provider without our authentication is refused.
 */
export function trustOurAuthentication(provider: Provider): void {
  const prototype = provider.Client.prototype as { compareClientSecret(actual: string): boolean }
  prototype.compareClientSecret = function compareClientSecret(this: { clientId?: string }) {
    const request = Provider.ctx?.req
    return request !== undefined && this.clientId !== undefined && authenticated.get(request) === this.clientId
  }
}
