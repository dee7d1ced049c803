/** Tests that resources are closed in the reverse order of their opening, so that no call reaches a closed server. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { closeAfter } from './teardown.ts'

const closed: string[] = []
after(() => {
  assert.deepEqual(closed, ['third', 'second', 'first', 'a server without callers'])
})

test('resources are closed in the opposite order, one after the other', async (t) => {
  closeAfter(t, () => void closed.push('first'))
  closeAfter(t, async () => {
    await new Promise((resolve) => setImmediate(resolve))
    closed.push('second')
  })
  closeAfter(t, () => void closed.push('third'))
})

test('a client that calls a server repeatedly is stopped before the server', async (t) => {
  const server = createServer((_request, response) => void response.end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closeAfter(t, async () => {
    await new Promise((resolve) => server.close(resolve))
    closed.push('a server without callers')
  })
  let isStopped = false
  const { port } = server.address() as AddressInfo
  // These calls are like those of a page whose event stream has ended. If the server were closed first, a call would
  // fail after the test.
  const calling = (async () => {
    while (!isStopped) await fetch(`http://127.0.0.1:${port}`, { headers: { connection: 'close' } })
  })()
  closeAfter(t, async () => {
    isStopped = true
    await calling
  })
})
