/**
 * The requirements of each security profile. Other code checks single properties of the profile, and never the name of
 * the profile.
 */

export interface Profile {
  name: 'core' | 'fapi-ciba'
  /** Allowed delivery modes. */
  deliveryModes: readonly ('poll' | 'ping' | 'push')[]
  /** Allowed client authentication methods. */
  clientAuthentication: readonly string[]
  /**
   * Allowed algorithms for the signatures of client assertions, signed requests and DPoP proofs. The HMAC algorithms
   * are not listed here.
   */
  clientSigning: readonly string[]
  idTokenSigning: readonly ('ES256' | 'RS256' | 'PS256')[]
  /**
   * Whether the issuer must be the only audience of client assertions. This is the default of the setting
   * `strictAssertionAudience`.
   */
  issuerAsAudience: boolean
  /** Whether every authentication request must be signed, even if the client did not register this. */
  signedRequestsOnly: boolean
  /** Whether a request must say what it is about: by authorization details or a binding message. */
  uniqueContext: boolean
  /** Whether every access token must be sender-constrained. */
  boundTokensOnly: boolean
}

const core: Profile = {
  name: 'core',
  deliveryModes: ['poll', 'ping', 'push'],
  clientAuthentication: [
    'client_secret_basic',
    'client_secret_post',
    'client_secret_jwt',
    'private_key_jwt',
    'tls_client_auth',
    'self_signed_tls_client_auth',
    'none',
  ],
  clientSigning: ['ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', 'RS384', 'RS512', 'Ed25519', 'EdDSA'],
  idTokenSigning: ['ES256', 'RS256', 'PS256'],
  issuerAsAudience: false,
  signedRequestsOnly: false,
  uniqueContext: false,
  boundTokensOnly: false,
}

/** FAPI-CIBA, Implementer's Draft 1, with the requirements of FAPI 1.0 that this draft includes. */
const fapiCiba: Profile = {
  name: 'fapi-ciba',
  deliveryModes: ['poll', 'ping'],
  clientAuthentication: ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
  clientSigning: ['ES256', 'PS256'],
  idTokenSigning: ['ES256', 'PS256'],
  issuerAsAudience: true,
  signedRequestsOnly: true,
  uniqueContext: true,
  boundTokensOnly: true,
}

/** The profiles by name. */
export const profiles = { core, 'fapi-ciba': fapiCiba } as const

/** The HMAC algorithms of client assertions, whose key is the client secret (`client_secret_jwt`). */
export const secretSigning: readonly string[] = ['HS256', 'HS384', 'HS512']

/**
 * Returns the algorithms with which client assertions may be signed. HMAC algorithms are among them only if the profile
 * allows `client_secret_jwt`. The metadata document lists the returned algorithms, and registration accepts them.
 */
export function assertionAlgorithms({ clientSigning, clientAuthentication }: Profile): string[] {
  return clientAuthentication.includes('client_secret_jwt') ? [...clientSigning, ...secretSigning] : [...clientSigning]
}

/**
 * Thrown if registered clients violate the security profile. The message lists the first of these clients, each with its
 * violations.
 */
export class ProfileError extends Error {
  override readonly name = 'ProfileError'

  /**
   * @param problems one line for each violation
   * @param more the number of clients that violate the profile and are not listed
   */
  constructor(problems: string[], more = 0) {
    const lines = more === 0 ? problems : [...problems, `and ${more} more ${more === 1 ? 'client' : 'clients'}`]
    super(`registered clients violate the profile:\n${lines.map((each) => `  - ${each}`).join('\n')}`)
  }
}
