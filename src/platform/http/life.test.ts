import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import Fastify from 'fastify'
import { trackConnections } from './life.ts'

test('a call whose caller has hung up before is not counted, and closing does not wait for it', async () => {
  const app = Fastify()
  trackConnections(app)
  const request = (destroyed: boolean) => ({ socket: { destroyed }, httpVersionMajor: 1 }) as unknown as IncomingMessage
  const response = (destroyed: boolean) => ({ destroyed }) as ServerResponse
  assert.equal(app.life.begin(request(true), response(false)), false)
  assert.equal(app.life.begin(request(false), response(true)), false)
  // If the calls were counted, this would take an hour.
  await app.life.quiet(3_600_000)
})
