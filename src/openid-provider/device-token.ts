/** Issues access tokens for the device API to users who signed in at another OpenID provider. */
import type { Authentication } from '../user/authentication.ts'
import { setAuthenticationContext } from './authentication-context.ts'
import type { CurrentProvider } from './openid-provider.ts'

export interface DeviceToken {
  accessToken: string
  /** Seconds. */
  expiresIn: number
}

/**
 * Returns a function that issues and stores an access token for the device API.
 * @param clientId the client that the token is issued to
 */
export function createDeviceToken(currentProvider: CurrentProvider, clientId: string) {
  return async (userId: string, authentication: Authentication): Promise<DeviceToken> => {
    const provider = currentProvider()
    const client = await provider.Client.find(clientId)
    const token = new provider.AccessToken({
      accountId: userId,
      client,
      scope: 'openid ciba:decide',
      gty: 'authorization_code',
    } as never)
    setAuthenticationContext(token, authentication)
    const accessToken = await token.save()
    return { accessToken, expiresIn: token.expiration }
  }
}
