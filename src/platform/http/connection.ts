/** The connection that waits for a response and may be closed. */
import type { FastifyReply } from 'fastify'
import { OAuthError } from '../oauth-error.ts'

export interface IncomingConnection {
  /** Whether the connection is known to be closed. */
  isClosed(): boolean
  /**
   * Must be awaited before work that is done only once: a caller that disconnected tries again, at this or another node. A
   * process that was paused, while its machine was moved for instance, finds calls that were abandoned long ago.
   *
   * @throws {OAuthError} if the connection is closed
   */
  throwIfClosed(): Promise<void>
  onClose(listener: () => void): void
}

/** Returns the connection of a reply. */
export function callerOf({ raw }: Pick<FastifyReply, 'raw'>): IncomingConnection {
  const isClosed = () => raw.destroyed || raw.socket?.destroyed === true || raw.socket?.readableEnded === true
  return {
    isClosed,
    async throwIfClosed() {
      // The end of a connection is read after its data: in the next turn of the event loop, if both were there.
      await turn()
      await turn()
      if (isClosed()) throw new OAuthError('invalid_request', 'the connection ended before the answer')
    },
    onClose: (listener) => raw.once('close', listener),
  }
}

let underWay: Promise<void> | undefined

/** Waits for the rest of this turn of the event loop. Shared, so that calls which continue together are written together. */
function turn(): Promise<void> {
  underWay ??= new Promise((resolve) =>
    setImmediate(() => {
      underWay = undefined
      resolve()
    }),
  )
  return underWay
}
