/** Receives request bodies. They are limited in size, and in the number of pieces in which they arrive. */
import type { Readable } from 'node:stream'
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

/**
 * Resolves to the body, in one Buffer.
 *
 * @param announced the value of `Content-Length`, if there is one
 * @throws {OAuthError} with status 413 if the body is too large, with 400 if it has too many pieces or is incomplete
 */
export function receiveBody(payload: Readable, announced: string | undefined): Promise<Buffer> {
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
    pieces.push(piece)
    if (pieces.length === joinedAfter) pieces = [Buffer.concat(pieces)]
    if (length > MAX_BODY_BYTES) stop(tooLarge())
    else if (count > mostPieces) stop(tooManyPieces())
  }

  /** What still arrives is discarded, until the connection is closed after the response. */
  function stop(error: OAuthError): void {
    payload.off('data', onData).off('end', onEnd)
    pieces = []
    reject(error)
  }

  function onEnd(): void {
    const isWhole = announced === undefined || Number(announced) === length
    if (isWhole) resolve(Buffer.concat(pieces))
    else reject(incomplete())
  }

  payload.on('data', onData).on('end', onEnd)
  payload.on('error', () => reject(incomplete()))
  return promise
}

const tooLarge = () =>
  new OAuthError('invalid_request', `the body is larger than ${MAX_BODY_BYTES} bytes`, { status: 413 })

const tooManyPieces = () => new OAuthError('invalid_request', `the body arrives in more than ${mostPieces} pieces`)

const incomplete = () => new OAuthError('invalid_request', 'the body is incomplete')
