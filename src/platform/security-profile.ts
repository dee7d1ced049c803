/** What a deployment has promised to keep to. Whoever has to know asks the profile, and nobody asks for its name. */

export interface Profile {
  name: 'core' | 'fapi-ciba'
  /** How outcomes may reach clients. */
  deliveryModes: readonly ('poll' | 'ping' | 'push')[]
  /** How clients may authenticate themselves. */
  clientAuthentication: readonly string[]
  /** What client assertions, signed requests and DPoP proofs may be signed with. Never a shared secret where one is listed here. */
  clientSigning: readonly string[]
  idTokenSigning: readonly ('ES256' | 'RS256' | 'PS256')[]
  /** Whether client assertions are for the issuer alone, unless the configuration says otherwise. */
  issuerAsAudience: boolean
  /** Whether a request has to be signed, registered for it or not. */
  signedRequestsOnly: boolean
  /** Whether a request has to say what it is about: by its details or by a binding message. */
  uniqueContext: boolean
  /** Whether every access token is bound to a key of its client. */
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

/** FAPI-CIBA, Implementer's Draft 1, with what it inherits of FAPI 1.0: FC-2 to FC-7, FC-15, FI-1, FI-2, FI-5. */
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

export const profiles = { core, 'fapi-ciba': fapiCiba } as const
