/** One request, as text that can be stored, changed and sent again. */
import type { Jwt } from './holes.ts'

/**
 * Texts have one byte per character, and placeholders, `{{…}}`, for values that only the running server or a key can
 * provide (see `holes.ts`).
 */
export interface Shot {
  method: string
  target: string
  version: string
  headers: [name: string, value: string][]
  body: string
  /** How the length of the body is declared. */
  framing: Framing
}

/**
 * `short` and `long` declare less and more than there is; `twice` declares it in two ways; `garbled` breaks the chunks.
 */
export type Framing = 'length' | 'chunked' | 'short' | 'long' | 'twice' | 'garbled' | 'none'

/** A text, or a JWT that is signed when it is sent. */
export type Said = string | { $jwt: Jwt }

/** A valid request, from which the grammar starts. `test/fuzz/corpus/*.json` contains lists of them. */
export interface Seed {
  method: string
  path: string
  query?: Record<string, Said>
  headers?: Record<string, Said>
  form?: Record<string, Said>
  json?: unknown
}

export function isWellFramed({ framing, headers }: Shot): boolean {
  const isPlain = framing === 'length' || framing === 'chunked' || framing === 'none'
  return isPlain && !headers.some(([name]) => /^(transfer-encoding|content-length)$/i.test(name))
}

/**
 * Returns whether the server may close the connection without a response: the request was not HTTP, or asked for
 * another protocol.
 */
export function mayBeMet(shot: Shot): 'only by an answer' | 'by silence too' {
  const plain = /^[A-Z]+$/.test(shot.method) && shot.method !== 'CONNECT' && shot.version === 'HTTP/1.1'
  const clean = shot.headers.every(
    ([name, value]) => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) && !/[\r\n\0]/.test(value),
  )
  return plain && clean && isWellFramed(shot) ? 'only by an answer' : 'by silence too'
}

/** Returns the bytes of the request; `fill` returns the value of a placeholder. */
export function bytesOf(shot: Shot, fill: (text: string, encode: (value: string) => string) => string): Buffer {
  const form = isForm(shot)
  const body = Buffer.from(fill(shot.body, form ? encodeURIComponent : withinJson), 'latin1')
  const target = fill(shot.target, encodeURIComponent)
  const headers = shot.headers.map(([name, value]) => `${name}: ${fill(value, (plain) => plain)}\r\n`)
  const [framing, framed] = frame(shot.framing, body)
  const head = `${shot.method} ${target} ${shot.version}\r\n${headers.join('')}${framing}\r\n`
  return Buffer.concat([Buffer.from(head, 'latin1'), framed])
}

function isForm({ headers }: Shot): boolean {
  return headers.some(([name, value]) => name.toLowerCase() === 'content-type' && value.includes('urlencoded'))
}

const withinJson = (value: string) => JSON.stringify(value).slice(1, -1)

function frame(framing: Framing, body: Buffer): [headers: string, body: Buffer] {
  const announce = (length: number) => `content-length: ${length}\r\n`
  switch (framing) {
    case 'none':
      return ['', Buffer.alloc(0)]
    case 'length':
      return [announce(body.length), body]
    case 'short':
      return [announce(Math.floor(body.length / 2)), body]
    case 'long':
      return [announce(body.length + 7), body]
    case 'twice':
      return [`${announce(body.length)}transfer-encoding: chunked\r\n`, chunked(body)]
    case 'chunked':
      return ['transfer-encoding: chunked\r\n', chunked(body)]
    case 'garbled':
      return ['transfer-encoding: chunked\r\n', Buffer.concat([Buffer.from('zz\r\n'), body])]
  }
}

function chunked(body: Buffer): Buffer {
  const half = Math.ceil(body.length / 2)
  const pieces = [body.subarray(0, half), body.subarray(half)].filter(({ length }) => length > 0)
  const chunks = pieces.flatMap((piece) => [
    Buffer.from(`${piece.length.toString(16)}\r\n`),
    piece,
    Buffer.from('\r\n'),
  ])
  return Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')])
}

/** Returns readable text: control characters and non-ASCII are escaped, long repetitions counted. */
export function readable(bytes: Buffer): string {
  const text = bytes.toString('latin1').replaceAll(/(.)\1{40,}/gs, (all, one) => `${one}«${all.length} times»`)
  return text
    .replaceAll('\r\n', '\n')
    .replaceAll(/[^\n\x20-\x7e«»]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
