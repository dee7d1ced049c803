import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { loadTexts } from '../../platform/i18n/texts.ts'
import { createLog } from '../../platform/log.ts'
import type { Notice } from './device-notice.ts'
import { createEmailChannel } from './email.ts'
import { createNotifyHook } from './notify-hook.ts'

const notice: Notice = {
  id: 'n1',
  link: 'https://id.example/approve/r1',
  user: { id: 'u1', email: 'ana@example.com' },
  request: {
    request_id: 'r1',
    user_id: 'u1',
    client: { client_id: 'till' },
    scope: 'openid',
    created_at: 1_790_000_000,
    expires_at: 1_790_000_600,
  },
}

/** A mail server that accepts connections and never responds. */
async function openSilentServer(t: TestContext): Promise<string> {
  const sockets: Socket[] = []
  const server = createServer((socket) => void sockets.push(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function emailTo(smtp: string, timeout: number) {
  return createEmailChannel({ smtp, timeout, from: 'a@b.c', issuer: 'https://id.example', texts: loadTexts() })
}

function hookThatNeverEnds(timeout: number) {
  const users = { findByHint: async () => null, find: async () => null, notify: () => new Promise<void>(() => {}) }
  return createNotifyHook({ users, timeout, log: createLog('silent') })
}

for (const [name, open] of [
  ['a mail server', async (t: TestContext, timeout: number) => emailTo(await openSilentServer(t), timeout)],
  ['a hook', async (_t: TestContext, timeout: number) => hookThatNeverEnds(timeout)],
] as const) {
  test(`${name} that does not respond fails after the timeout`, async (t) => {
    const channel = await open(t, 20)
    assert.deepEqual(await channel.send(notice, new AbortController().signal), { kind: 'failed', words: 'timeout' })
  })

  test(`waiting for ${name} stops at once when the server shuts down`, async (t) => {
    const channel = await open(t, 60_000)
    const ending = new AbortController()
    const sent = channel.send(notice, ending.signal)
    ending.abort()
    await assert.rejects(sent)
  })
}
