/**
 * Authenticates clients, in the same way at our own endpoints and at the endpoints of oidc-provider. A client must use
 * the one authentication method that it registered.
 */
import type { Audit } from '../../platform/audit.ts'
import type { LoadShedding } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { AuthenticateClient, Client, ClientCredentials } from '../client.ts'
import type { ClientStore } from '../client-store.ts'
import { type AuthenticationFailure, authenticationFailed, type Claim, failedBecause } from './claim.ts'
import { readAssertion, type VerifyAssertion } from './client-assertion.ts'
import { readBasic, readPost, type VerifySecret } from './client-secret.ts'
import { readName, readTls, type VerifyCertificate } from './client-tls.ts'

export interface AuthenticationNeeds {
  clients: ClientStore
  verifySecret: VerifySecret
  verifyAssertion: VerifyAssertion
  verifyCertificate: VerifyCertificate
  whileProving: LoadShedding['whileProving']
  /** In development, the response says why client authentication failed. */
  development: boolean
  audit: Audit
}

/** Returns the function that authenticates the client of a call. A failed authentication is audited. */
export function createClientAuthentication(needs: AuthenticationNeeds): AuthenticateClient {
  return async (credentials) => {
    let client: Client | undefined
    try {
      const claim = readClaim(credentials)
      const prove = async () => {
        client = await needs.clients.find(claim.clientId)
        if (client === undefined) throw clientRefused('no such client')
        const wrong = await verify(client, claim, credentials, needs)
        if (wrong === undefined) return client
        throw failure(client, wrong)
      }
      // If `prove` succeeds, `whileProving` remembers the caller's address as an address of this client. A call that
      // contains only a `client_id` proves nothing. In that case, the caller's address must not be remembered.
      return claim.proof === undefined
        ? await prove()
        : await needs.whileProving(claim.clientId, credentials.slot, prove)
    } catch (error) {
      // The client_id is audited only if such a client exists. Any other client_id may be a secret that was sent by
      // mistake.
      const happened = { event: 'client.refused', client: client?.id, address: credentials.address } as const
      if (error instanceof OAuthError) needs.audit({ ...happened, outcome: error.code })
      throw needs.development ? explained(error) : error
    }
  }
}

/** Returns what is wrong with the authentication, or undefined if it is valid. */
function verify(
  client: Client,
  claim: Claim,
  { certificate, slot }: ClientCredentials,
  needs: AuthenticationNeeds,
): Promise<AuthenticationFailure | string | undefined> | AuthenticationFailure | string | undefined {
  const method = client.metadata.token_endpoint_auth_method
  if (method === undefined || !claim.couldBe.includes(method)) {
    return `registered for ${method}, called as ${claim.couldBe.join(' or ')}`
  }
  const { proof = '' } = claim
  switch (method) {
    case 'none':
      return undefined
    case 'client_secret_basic':
    case 'client_secret_post':
      return needs.verifySecret(proof, client)
    case 'client_secret_jwt':
    case 'private_key_jwt':
      return needs.verifyAssertion(proof, client, slot)
    case 'tls_client_auth':
    case 'self_signed_tls_client_auth':
      return needs.verifyCertificate(method, certificate, client, slot)
    default:
      return `the method ${method} does not authenticate the client`
  }
}

function failure(client: Client, wrong: AuthenticationFailure | string): OAuthError {
  const { reason, isSigned } = typeof wrong === 'string' ? { reason: wrong, isSigned: false } : wrong
  return clientRefused(`${client.id}: ${reason}`, isSigned ? failedBecause(reason) : undefined)
}

/**
 * Returns the client authentication that a call contains. It is not verified yet. Throws if the call has no client
 * authentication, or uses more than one method (RFC 6749 §2.3).
 */
function readClaim(credentials: ClientCredentials): Claim {
  const { form, authorization } = credentials
  const asserts = form.has('client_assertion') || form.has('client_assertion_type')
  const ways = Number(authorization !== undefined) + Number(form.has('client_secret')) + Number(asserts)
  if (ways > 1) throw new OAuthError('invalid_request', 'use exactly one client authentication method')
  const claim =
    readBasic(credentials) ??
    readPost(credentials) ??
    readAssertion(credentials) ??
    (credentials.mayBePublic ? readName(credentials) : readTls(credentials))
  if (claim === undefined) throw clientRefused('the request has no client authentication')
  const named = credentials.form.get('client_id')
  if (named !== undefined && named !== claim.clientId) {
    throw clientRefused('client_id in the body is not the client that authenticates')
  }
  return claim
}

/**
 * Returns the error for a failed authentication. `detail` is the reason. The reason is logged, and in development the
 * response contains it too. `hint` is the `error_description` of the response. The default of `hint` is the same for
 * every failure, so that a caller does not learn the reason. Only a caller that has signed with the client's key may
 * learn the reason.
 */
export function clientRefused(detail: string, hint: string = authenticationFailed): OAuthError {
  return new OAuthError('invalid_client', hint, { detail })
}

/** Adds the reason (`detail`) to the `error_description` of an error. Used in development only. */
function explained(error: unknown): unknown {
  if (!(error instanceof OAuthError) || error.hint !== authenticationFailed || error.detail === undefined) return error
  const { code, detail, headers } = error
  return new OAuthError(code, failedBecause(detail), { detail, headers })
}
