/** One request, as text that can be kept, changed and sent again. */
import type { Jwt } from './holes.ts'

/**
 * Texts hold one byte a character, and holes, `{{…}}`, for what only the running server or a key can give (see
 * `holes.ts`).
 */
export interface Shot {
  method: string
  target: string
  version: string
  headers: [name: string, value: string][]
  body: string
  /** How the body is announced. */
  framing: Framing
}

/** `short` and `long` announce less and more than there is; `twice` says it in two ways; `garbled` breaks the chunks. */
export type Framing = 'length' | 'chunked' | 'short' | 'long' | 'twice' | 'garbled' | 'none'

/** A text, or a JWT that is signed when it is sent. */
export type Said = string | { $jwt: Jwt }

/** A request as it should be: what the grammar starts from. `test/fuzz/corpus/*.json` holds lists of them. */
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

/** Whether the server may close the connection without a word: what came was no HTTP, or asked for something else. */
export function mayBeMet(shot: Shot): 'only by an answer' | 'by silence too' {
  const plain = /^[A-Z]+$/.test(shot.method) && shot.method !== 'CONNECT' && shot.version === 'HTTP/1.1'
  const clean = shot.headers.every(
    ([name, value]) => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) && !/[\r\n\0]/.test(value),
  )
  return plain && clean && isWellFramed(shot) ? 'only by an answer' : 'by silence too'
}

/** What goes through the wire; `fill` answers what stands in a hole. */
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

/** For people: control characters and what is no ASCII are escaped, long repetitions counted. */
export function readable(bytes: Buffer): string {
  const text = bytes.toString('latin1').replaceAll(/(.)\1{40,}/gs, (all, one) => `${one}«${all.length} times»`)
  return text
    .replaceAll('\r\n', '\n')
    .replaceAll(/[^\n\x20-\x7e«»]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
