import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { MAX_BODY_BYTES, mostPieces, receiveBody } from './request-body.ts'

/** Sends the pieces one after the other. */
function send(pieces: Buffer[], announced?: string) {
  const payload = new PassThrough({ readableHighWaterMark: 0 })
  const body = receiveBody(payload, announced)
  for (const piece of pieces) payload.write(piece)
  return { payload, body }
}

const pieces = (count: number, of = 'a') => Array.from({ length: count }, () => Buffer.from(of))

test('the pieces of a body are joined in their order', async () => {
  const numbers = Array.from({ length: mostPieces }, (_, number) => Buffer.from(`${number},`))
  const { payload, body } = send(numbers)
  payload.end()
  assert.equal(String(await body), `${Array.from({ length: mostPieces }, (_, number) => number).join()},`)
})

test('a body that is too large, or has too many pieces, is refused before its end', async () => {
  await assert.rejects(send([], String(MAX_BODY_BYTES + 1)).body, { status: 413 })
  await assert.rejects(send([Buffer.alloc(MAX_BODY_BYTES), Buffer.alloc(1)]).body, { status: 413 })
  await assert.rejects(send(pieces(mostPieces + 1)).body, { status: 400, hint: /more than 1024 pieces/ })
})

test('a body that ends early or breaks off is refused', async () => {
  const early = send(pieces(3), '4')
  early.payload.end()
  await assert.rejects(early.body, { status: 400 })
  const broken = send(pieces(3), '4')
  broken.payload.destroy(new Error('aborted'))
  await assert.rejects(broken.body, { status: 400 })
})
