/** Receives request bodies. They are limited in size, and in the number of pieces in which they arrive. */
import type { IncomingMessage } from 'node:http'
import { OAuthError } from '../oauth-error.ts'

/** The largest body that is read, in bytes. A signed request with all its claims has a tenth of this size. */
export const MAX_BODY_BYTES = 64 * 1024

/**
 * Maximum number of pieces of a body. A piece is a chunk of the chunked coding, or what one read from the socket has
 * returned. A body of the largest size, in pieces of 64 bytes, is accepted. Each piece costs a call and a Buffer, so a
 * caller that sends single bytes would keep this process busy with a small upload.
 */
export const mostPieces = 1024

/** Pieces that are kept before they are joined: the Buffer of a short piece takes much more memory than its content. */
const joinedAfter = 32

const body = Symbol('body')

type Receiving = IncomingMessage & { [body]?: Promise<Buffer> }

/**
 * Begins to receive the body of a call, if it has one. Must be called for each call at once, also for a GET, and for a call
 * that is refused: Node keeps the pieces of a body that nobody reads until the response has been read.
 */
export function beginBody(request: IncomingMessage): void {
  const { 'transfer-encoding': coding, 'content-length': announced } = request.headers
  if (coding === undefined && announced === undefined) return
  const received = receive(request, announced)
  // A call that is refused does not wait for its body.
  received.catch(() => {})
  ;(request as Receiving)[body] = received
}

/**
 * Resolves to the body, in one Buffer. It is empty if the call has no body.
 *
 * @throws {OAuthError} with status 413 if the body is too large, with 400 if it is incomplete. If it has too many pieces, the
 * connection is closed
 */
export function wholeBody(request: IncomingMessage): Promise<Buffer> {
  return (request as Receiving)[body] ?? Promise.resolve(Buffer.alloc(0))
}

function receive(request: IncomingMessage, announced: string | undefined): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  if (Number(announced) > MAX_BODY_BYTES) {
    reject(tooLarge())
    return promise
  }
  let pieces: Buffer[] = []
  let count = 0
  let length = 0

  function onData(piece: Buffer): void {
    count += 1
    length += piece.length
    if (count > mostPieces) {
      request.off('data', onData)
      reject(tooManyPieces())
      // A response would be sent only after all that has arrived is processed.
      request.destroy()
    } else if (length > MAX_BODY_BYTES) {
      // What still arrives is discarded, until the connection is closed after the response.
      pieces = []
      reject(tooLarge())
    } else {
      pieces.push(piece)
      if (pieces.length === joinedAfter) pieces = [Buffer.concat(pieces)]
    }
  }

  function onEnd(): void {
    const isWhole = announced === undefined || Number(announced) === length
    if (isWhole) resolve(Buffer.concat(pieces))
    else reject(incomplete())
  }

  request.on('data', onData).on('end', onEnd)
  request.on('error', () => reject(incomplete()))
  return promise
}

const tooLarge = () =>
  new OAuthError('invalid_request', `the body is larger than ${MAX_BODY_BYTES} bytes`, { status: 413 })

const tooManyPieces = () => new OAuthError('invalid_request', `the body arrives in more than ${mostPieces} pieces`)

const incomplete = () => new OAuthError('invalid_request', 'the body is incomplete')
