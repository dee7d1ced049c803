/**
 * Makes each token request with one of oidc-provider's own grant types one transaction: the code or refresh token is
 * marked as used, and the new tokens are stored. oidc-provider itself makes these writes one after the other. If the
 * server or the database failed in between, the client would repeat the request, and the repeated use of the code or
 * token would end the whole grant.
 */
import { errors, Provider } from 'oidc-provider'
import { collectCall } from './oidc-adapter.ts'
import type { OidcModelStore } from './oidc-model-store.ts'

/**
 * Returns the class of oidc-provider with grants that write in one transaction. The constructor of oidc-provider
 * registers each grant by the public method `registerGrantType`, so the override gets the handlers of all grants.
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
 * If `work` throws, its writes are discarded: the client can send the same code or token again, because no token was
 * issued for it.
 */
async function inOneTransaction(models: Pick<OidcModelStore, 'runCall'>, work: () => Promise<void>): Promise<void> {
  const call = await collectCall(work)
  if (!(await models.runCall(call))) throw new errors.InvalidGrant('already consumed')
}
