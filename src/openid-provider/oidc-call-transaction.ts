/**
 * Makes all writes of a token request in one transaction, for oidc-provider's own grant types. The code or refresh
 * token is marked as used, and the new tokens are stored. oidc-provider itself makes these writes one after the other.
 * If the server or the database failed between two of these writes, the client would repeat the request, and the
 * repeated use of the code or token would end the whole grant.
 */
import { errors, Provider } from 'oidc-provider'
import { collectCall } from './oidc-adapter.ts'
import type { OidcModelStore } from './oidc-model-store.ts'

/**
 * Returns a subclass of oidc-provider's `Provider` whose grant types write in one transaction. The constructor of
 * `Provider` registers each grant type with the public method `registerGrantType`, so the override of this method gets
 * the handlers of all grant types.
 */
export function withAtomicGrants(models: Pick<OidcModelStore, 'runCall'>): typeof Provider {
  return class extends Provider {
    override registerGrantType<Params extends object>(
      ...[name, handler, ...parameters]: Parameters<typeof Provider.prototype.registerGrantType<Params>>
    ): void {
      super.registerGrantType<Params>(name, (ctx) => inOneTransaction(models, async () => handler(ctx)), ...parameters)
    }
  }
}

/**
 * If `work` throws, its writes are discarded. No token was issued for the code or refresh token, so the client can send
 * it again.
 */
async function inOneTransaction(models: Pick<OidcModelStore, 'runCall'>, work: () => Promise<void>): Promise<void> {
  const call = await collectCall(work)
  if (!(await models.runCall(call))) throw new errors.InvalidGrant('already consumed')
}
