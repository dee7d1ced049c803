/**
 * Revokes the tokens of a push that can no longer be delivered, because tokens that the client does not have must not
 * stay valid. A push is parked if it can no longer be delivered. A parked push is sent again only if an operator
 * retries it.
 */

import type { OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { Refusal } from '../../outbox/delivery.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { OutboxStore } from '../../outbox/outbox-store.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Vault } from '../../platform/crypto.ts'
import { pushLock } from '../authentication-request/request-mode-store.ts'
import { contentOf, holdsTokens, sealContent } from './notification-for.ts'
import { errorBody, revokedBody } from './push.ts'

export interface UndeliveredNeeds {
  outbox: Pick<OutboxStore, 'find' | 'replaceContent' | 'parkedWithContent' | 'erase'>
  /** Returns the statement that removes the tokens issued for a request. */
  removeIssued: OidcModelStore['removeByRequest']
  vault: Vault
  audit: Audit
}

/**
 * Returns the function to call when a client has refused a push permanently. The function resolves to statements that
 * revoke the tokens of the push and replace the tokens in its content by an error. The transaction that parks the push
 * executes these statements. If an operator retries the parked push, the client gets this error.
 */
export function createRefusedPush({ outbox, removeIssued, vault, audit }: UndeliveredNeeds) {
  return async ({ id }: OutboxMessage): Promise<Refusal | undefined> => {
    // The message is read again, because the attempt that was refused may have stored the body.
    const message = await outbox.find(id)
    if (message === undefined) return undefined
    const content = contentOf(message, vault)
    if (content === undefined || !holdsTokens(content)) return undefined
    const body =
      message.revokedAt === undefined
        ? errorBody(content, 'transaction_failed', 'the tokens could not be delivered and were revoked')
        : revokedBody(content)
    return {
      statements: [
        removeIssued(message.subject),
        outbox.replaceContent(id, sealContent(id, { ...content, body }, vault)),
      ],
      lockKeys: [pushLock(message.subject)],
      recorded: () => tell(message, audit),
    }
  }
}

/** Maximum number of notifications that one query reads. */
const batch = 200

/**
 * Returns the function that erases the content of pings and pushes that were parked before `parkedBefore`, and revokes
 * the tokens in this content. After that, an operator can no longer retry these notifications.
 */
export function createForgetUndelivered({ outbox, removeIssued, vault, audit }: UndeliveredNeeds) {
  async function forget(message: OutboxMessage): Promise<void> {
    // The content cannot be decrypted if the configured secret was changed. In this case, it is not known whether the
    // content contains tokens. So the content is erased, but no tokens are revoked.
    const content = contentOf(message, vault)
    const isHolding = content !== undefined && holdsTokens(content)
    const statements = isHolding ? [removeIssued(message.subject)] : []
    if ((await outbox.erase(message, statements, [pushLock(message.subject)])) && isHolding) tell(message, audit)
  }

  return async (parkedBefore: number): Promise<void> => {
    for (;;) {
      const messages = await outbox.parkedWithContent(['ping', 'push'], parkedBefore, batch)
      for (const message of messages) await forget(message)
      if (messages.length < batch) return
    }
  }
}

function tell({ id, subject, receiver }: OutboxMessage, audit: Audit): void {
  audit({ event: 'tokens.revoked', request: subject, client: receiver, by: 'push', about: id, outcome: 'undelivered' })
}
