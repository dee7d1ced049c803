/** The connection of a caller that waits for a response and may close the connection. */
import type { FastifyReply } from 'fastify'
import { OAuthError } from '../oauth-error.ts'

export interface IncomingConnection {
  /** Returns whether the connection is known to be closed. */
  isClosed(): boolean
  /**
   * Rejects if the connection is closed. Must be awaited before work that can be done only once, such as the redemption
   * of a request. If the connection is closed, the caller will call again, at this node or another, and the work must
   * be done for that later call. The connection may have been closed long ago, if this process was paused, for instance
   * while its virtual machine was migrated.
   *
   * @throws {OAuthError} if the connection is closed
   */
  throwIfClosed(): Promise<void>
  /** Calls `listener` once when the connection closes; soon after this call if it is closed already. */
  onClose(listener: () => void): void
}

/** Returns the connection of a reply. */
export function callerOf({ raw }: Pick<FastifyReply, 'raw'>): IncomingConnection {
  const isClosed = () => raw.destroyed || raw.socket?.destroyed === true || raw.socket?.readableEnded === true
  return {
    isClosed,
    async throwIfClosed() {
      // If data and the end of a connection have both arrived, Node reads the data in one turn of the event loop, and
      // the end in the next turn. So two turns must pass before `isClosed` can be trusted.
      await turn()
      await turn()
      if (isClosed()) throw new OAuthError('invalid_request', 'the connection ended before the answer')
    },
    onClose(listener) {
      // A response emits `close` only once.
      if (raw.destroyed) queueMicrotask(listener)
      else raw.once('close', listener)
    },
  }
}

let underWay: Promise<void> | undefined

/**
 * Resolves after this turn of the event loop. All callers of one turn get the same promise, so that their responses are
 * written together.
 */
function turn(): Promise<void> {
  underWay ??= new Promise((resolve) =>
    setImmediate(() => {
      underWay = undefined
      resolve()
    }),
  )
  return underWay
}
