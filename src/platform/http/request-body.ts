/** Receives request bodies. They are limited in size, and in the number of pieces in which they arrive. */
import { IncomingMessage } from 'node:http'
import { OAuthError } from '../oauth-error.ts'

/** The largest body that is read, in bytes. A signed request with all its claims has a tenth of this size. */
export const MAX_BODY_BYTES = 64 * 1024

/**
 * Maximum number of pieces of a body. A piece is a chunk of the chunked coding, or the bytes that one read from the
 * socket returned. So a body of the largest size is accepted in pieces of 64 bytes. The number is limited because each
 * piece costs a function call and a Buffer: a caller that sends single bytes would keep this process busy with a small
 * upload.
 */
export const mostPieces = 1024

/**
 * This many pieces are joined into one, because the Buffer of a short piece takes much more memory than its content.
 */
const joinedAfter = 32

/** A function that is called once: with the whole body, or with the error that prevented its receipt. */
export type TakeBody = (error: OAuthError | null, body?: Buffer) => void

const body = Symbol('body')

type Receiving = IncomingMessage & { [body]?: Pick<RequestBody, 'take'> }

/**
 * Begins to receive the body of a call, if it has one. Must be called at once for each call, even for a GET and for a
 * call that is refused: if a body is not read, Node keeps its pieces in memory until the response has been read.
 */
export function beginBody(request: IncomingMessage): void {
  const { 'transfer-encoding': coding, 'content-length': announced } = request.headers
  if ((request as Receiving)[body] !== undefined) return
  // In HTTP/2, and in a request that the server itself injects, a call may have a body without these two headers.
  if (coding === undefined && announced === undefined && request instanceof IncomingMessage) return
  ;(request as Receiving)[body] = new RequestBody(request, announced)
}

/** Sets the body of a call that another server has received already. Must be called before `beginBody`. */
export function useBody(request: IncomingMessage, whole: Buffer): void {
  const isTooLarge = whole.length > MAX_BODY_BYTES
  ;(request as Receiving)[body] = { take: (take) => (isTooLarge ? take(tooLarge()) : take(null, whole)) }
}

/**
 * Calls `take` when the body has been received. The body is empty if the call has none.
 *
 * The error has the status 413 if the body is too large, and 400 if it is incomplete or has too many pieces. If it has
 * too many pieces, the connection has been closed.
 */
export function takeBody(request: IncomingMessage, take: TakeBody): void {
  const receiving = (request as Receiving)[body]
  if (receiving === undefined) take(null, Buffer.alloc(0))
  else receiving.take(take)
}

class RequestBody {
  readonly #request: IncomingMessage
  readonly #announced: number | undefined
  #pieces: Buffer[] = []
  #count = 0
  #length = 0
  #error: OAuthError | undefined
  #whole: Buffer | undefined
  #take: TakeBody | undefined

  constructor(request: IncomingMessage, announced: string | undefined) {
    this.#request = request
    this.#announced = announced === undefined ? undefined : Number(announced)
    if (this.#announced !== undefined && this.#announced > MAX_BODY_BYTES) this.#fail(tooLarge())
    request.on('data', (piece: Buffer) => this.#add(piece))
    request.on('end', () => this.#end())
    request.on('error', () => this.#fail(incomplete()))
  }

  take(take: TakeBody): void {
    this.#take = take
    this.#settle()
  }

  #add(piece: Buffer): void {
    this.#count += 1
    this.#length += piece.length
    if (this.#count > mostPieces) {
      this.#fail(tooManyPieces())
      // Without this line, the connection would be closed only after all pieces that have arrived were processed.
      this.#request.destroy()
      return
    }
    if (this.#length > MAX_BODY_BYTES) this.#fail(tooLarge())
    // After an error, further pieces are discarded. The connection is closed after the response.
    if (this.#error !== undefined) return
    this.#pieces.push(piece)
    if (this.#pieces.length === joinedAfter) this.#pieces = [Buffer.concat(this.#pieces)]
  }

  #end(): void {
    const isWhole = this.#announced === undefined || this.#announced === this.#length
    if (!isWhole) this.#fail(incomplete())
    else this.#whole = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces)
    this.#settle()
  }

  #fail(error: OAuthError): void {
    if (this.#whole !== undefined) return
    this.#error ??= error
    this.#pieces = []
    this.#settle()
  }

  #settle(): void {
    const take = this.#take
    if (take === undefined || (this.#error === undefined && this.#whole === undefined)) return
    this.#take = undefined
    if (this.#error === undefined) take(null, this.#whole)
    else take(this.#error)
  }
}

const tooLarge = () =>
  new OAuthError('invalid_request', `the body is larger than ${MAX_BODY_BYTES} bytes`, { status: 413 })

const tooManyPieces = () => new OAuthError('invalid_request', `the body arrives in more than ${mostPieces} pieces`)

const incomplete = () => new OAuthError('invalid_request', 'the body is incomplete')
