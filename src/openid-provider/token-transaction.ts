/**
 * Makes each call of oidc-provider's own grants one transaction: the code or refresh token is marked as used, and the new
 * tokens are stored. oidc-provider writes each of them by itself. If the server stopped in between, the client would repeat
 * the call, as the answer 503 tells it to, and the repetition of a used token ends the whole grant.
 */
import { errors, Provider } from 'oidc-provider'
import { collectCall } from './oidc-adapter.ts'
import type { OidcModelStore } from './oidc-model-store.ts'

/**
 * Returns the class of oidc-provider with grants that write in one transaction. Its constructor registers each grant by
 * `registerGrantType`, which is public, so the handlers of all grants pass here.
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

/** An error of `work` discards its writes: what it has marked as used can be sent again, because nothing was issued for it. */
async function inOneTransaction(models: Pick<OidcModelStore, 'runCall'>, work: () => Promise<void>): Promise<void> {
  const call = await collectCall(work)
  if (!(await models.runCall(call))) throw new errors.InvalidGrant('already consumed')
}
