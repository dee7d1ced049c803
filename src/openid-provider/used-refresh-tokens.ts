/**
 * Ends the grant if a public client sends a refresh token that was used before, even if the row of the token has been
 * removed since (RFC 9700 §4.14.2). For this purpose, each refresh token of a public client contains its expiry and the
 * hash of its grant, both encrypted. Without these values, a thief could use a stolen token, and then refresh many
 * times until the row of the stolen token is removed. When the client later sends the same token, the server would not
 * recognise it, and the grant would not end. A token that is bound to a key does not contain these values, because a
 * thief cannot use it.
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

/** Makes each refresh token of a public client contain its expiry and the hash of its grant, both encrypted. */
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
 * Returns the function that is called if a refresh token is not stored. In a token request, the function ends the grant
 * of the token if the token has not expired and the grant belongs to the client that sends the token.
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

/**
 * Reads two values from a refresh token: the hash of its grant, and its expiry. If the token does not contain them, or
 * was not issued by this server, `grantHash` is undefined and `expiresAt` is 0.
 */
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
