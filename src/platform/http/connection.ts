/** Whoever waits for an answer, and may stop waiting. */
import type { FastifyReply } from 'fastify'
import { OAuthError } from '../oauth-error.ts'

export interface IncomingConnection {
  /** Whether it is known by now that nobody waits any more. */
  isClosed(): boolean
  /**
   * To be awaited before anything is done for the caller that is done only once: who left comes again, here or at another
   * node. A process that stood still for a while, its machine being moved, say, finds calls that were given up long ago.
   *
   * @throws {OAuthError} if nobody waits any more
   */
  throwIfClosed(): Promise<void>
  onClose(listener: () => void): void
}

export function callerOf({ raw }: Pick<FastifyReply, 'raw'>): IncomingConnection {
  const isClosed = () => raw.destroyed || raw.socket?.destroyed === true || raw.socket?.readableEnded === true
  return {
    isClosed,
    async throwIfClosed() {
      // The end of a connection is read after what came over it: in the next turn of the event loop, if both were there.
      await turn()
      await turn()
      if (isClosed()) throw new OAuthError('invalid_request', 'the connection ended before the answer')
    },
    onClose: (listener) => raw.once('close', listener),
  }
}

let underWay: Promise<void> | undefined

/** The rest of this turn of the event loop. One for all who wait: what goes on together is written together. */
function turn(): Promise<void> {
  underWay ??= new Promise((resolve) =>
    setImmediate(() => {
      underWay = undefined
      resolve()
    }),
  )
  return underWay
}
