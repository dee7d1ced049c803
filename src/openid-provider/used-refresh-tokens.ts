/**
 * Recognises refresh tokens of public clients that have been used and are not stored any more. A thief who has used a token
 * could otherwise refresh until the row of that token is removed: the client that sends the token then would not end the
 * grant. So each token names its grant and its expiry, encrypted (RFC 9700 §4.14.2). A token that is bound to a key needs
 * neither: whoever steals it cannot use it.
 */
import { Provider } from 'oidc-provider'
import type { Clock } from '../platform/clock.ts'
import { fingerprint, type Vault } from '../platform/crypto.ts'
import type { OidcModelStore } from './oidc-model-store.ts'
import { mostOfGrant } from './old-token-store.ts'

export interface UsedRefreshTokensNeeds {
  models: Pick<OidcModelStore, 'endGrantOfUsedToken'>
  vault: Vault
  clock: Clock
}

/** The part of oidc-provider's refresh token that is needed here. */
interface RefreshToken {
  client: { clientAuthMethod?: string | undefined } | undefined
  grantId: string | undefined
  /** Seconds. */
  remainingTTL: number
  isSenderConstrained(): boolean
  generateTokenId(): string
}

const aadOf = (random: string) => `refresh token ${random}`

/** Makes the refresh tokens of public clients name their grant. */
export function nameGrants(
  provider: Provider,
  { vault, clock }: Pick<UsedRefreshTokensNeeds, 'vault' | 'clock'>,
): void {
  const prototype = provider.RefreshToken.prototype as unknown as RefreshToken
  const { generateTokenId } = prototype
  prototype.generateTokenId = function generateNamingGrant(this: RefreshToken) {
    const random = generateTokenId.call(this)
    const { client, grantId } = this
    if (grantId === undefined || client?.clientAuthMethod !== 'none' || this.isSenderConstrained()) return random
    const expiresAt = clock.now() + this.remainingTTL * 1000
    return `${random}.${vault.seal(`${fingerprint(grantId)} ${expiresAt}`, aadOf(random))}`
  }
}

/**
 * Returns the function that is called for a refresh token that is not stored. If its client sends the token to refresh, and
 * the token has not expired, the function ends the grant of the token.
 */
export function createEndGrantOfUsed({ models, vault, clock }: UsedRefreshTokensNeeds) {
  return async (token: string): Promise<void> => {
    const { route, client } = Provider.ctx?.oidc ?? {}
    if (route !== 'token' || client === undefined) return
    const { grantHash, expiresAt } = namedIn(token, vault)
    if (grantHash !== undefined && expiresAt > clock.now()) {
      await models.endGrantOfUsedToken(grantHash, client.clientId, mostOfGrant)
    }
  }
}

/** Returns what a token names. There is no `grantHash` if the token was not issued by this server, or names nothing. */
function namedIn(token: string, vault: Vault): { grantHash?: string | undefined; expiresAt: number } {
  const dot = token.indexOf('.')
  if (dot < 0) return { expiresAt: 0 }
  try {
    const [grantHash, expiresAt] = vault.open(token.slice(dot + 1), aadOf(token.slice(0, dot))).split(' ')
    return { grantHash, expiresAt: Number(expiresAt) }
  } catch {
    return { expiresAt: 0 }
  }
}
