import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { beginBody, MAX_BODY_BYTES, mostPieces, takeBody } from './request-body.ts'

/** Sends the pieces one after the other. */
function send(pieces: Buffer[], announced?: string) {
  const headers = announced === undefined ? { 'transfer-encoding': 'chunked' } : { 'content-length': announced }
  const payload = Object.assign(new PassThrough({ readableHighWaterMark: 0 }), { headers })
  const request = payload as unknown as IncomingMessage
  beginBody(request)
  for (const piece of pieces) payload.write(piece)
  const body = new Promise<Buffer>((resolve, reject) =>
    takeBody(request, (error, body) => (error ? reject(error) : resolve(body!))),
  )
  // A test may check the connection before it awaits `body`. Until then, a rejection must not count as unhandled.
  body.catch(() => {})
  return { payload, body }
}

const pieces = (count: number, of = 'a') => Array.from({ length: count }, () => Buffer.from(of))

test('the pieces of a body are joined in their order', async () => {
  const numbers = Array.from({ length: mostPieces }, (_, number) => Buffer.from(`${number},`))
  const { payload, body } = send(numbers)
  payload.end()
  assert.equal(String(await body), `${Array.from({ length: mostPieces }, (_, number) => number).join()},`)
})

test('a body that is too large is refused before its end', async () => {
  await assert.rejects(send([], String(MAX_BODY_BYTES + 1)).body, { status: 413 })
  await assert.rejects(send([Buffer.alloc(MAX_BODY_BYTES), Buffer.alloc(1)]).body, { status: 413 })
})

test('the connection of a body with too many pieces is closed, also if the body is too large', async () => {
  const tooMany = send(pieces(mostPieces + 1))
  await assert.rejects(tooMany.body, { status: 400, hint: /more than 1024 pieces/ })
  assert.equal(tooMany.payload.destroyed, true)
  const large = send([Buffer.alloc(MAX_BODY_BYTES), ...pieces(mostPieces - 1)])
  await assert.rejects(large.body, { status: 413 })
  assert.equal(large.payload.destroyed, false)
  large.payload.write('a')
  await once(large.payload, 'close')
})

test('a body that ends early or breaks off is refused', async () => {
  const early = send(pieces(3), '4')
  early.payload.end()
  await assert.rejects(early.body, { status: 400 })
  const broken = send(pieces(3), '4')
  broken.payload.destroy(new Error('aborted'))
  await assert.rejects(broken.body, { status: 400 })
})
