/** At every start a server logs which of its secrets are weak, and never the secrets themselves. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { openStage, type Stage } from '../support/stage.ts'

const production = { development: false, issuer: 'https://id.example.com' }

const weak = {
  secret: 'doorbell-secret-doorbell-secret-doorbell-secret',
  metrics: { token: 'metrics-token-metrics-token-metrics' },
  deviceWebhook: { url: 'https://bank.example/doorbell', secret: 'webhook-webhook-webhook-webhook-' },
  clients: [
    pollClient('short', { client_secret: 'hush-hush' }),
    pollClient('same', { client_secret: 'zyzyzyzyzyzyzyzyzyzyzyzyzyzy' }),
    pollClient('strong', { client_secret: newSecret() }),
  ],
  users: [
    { username: 'cleo', password: 'psst' },
    { username: 'bernadette', password: 'BERNADETTE' },
    { username: 'dora', password: newSecret(12) },
  ],
} satisfies ConfigInput

/** Log levels, as pino writes them. */
const [ERROR, WARN] = [50, 40]

const named = [
  [ERROR, 'secret'],
  [ERROR, 'metrics.token'],
  [ERROR, 'deviceWebhook.secret'],
  [WARN, 'client_secret of short'],
  [WARN, 'client_secret of same'],
  [WARN, 'password of cleo'],
  [WARN, 'password of bernadette'],
]

for (const engine of engines) {
  describe(`weak values, on ${engine.name}`, () => {
    test('are named in the log, once at every start, with advice', async (t) => {
      const stage = await openStage(t, { engine, cast: false, config: { ...production, ...weak } })
      assert.deepEqual(namedBy(stage), named)
      await stage.restart()
      assert.deepEqual(namedBy(stage), [...named, ...named])
      for (const { advice, msg } of linesAbout(stage)) assert.ok(String(advice) && String(msg))
    })

    test('are named if they are words or rows of the keyboard, but not if they are random', async (t) => {
      const hex = () => randomBytes(32).toString('hex')
      const random = { secret: newSecret(), metrics: { token: newSecret() } }
      for (const [values, expected] of [
        [{ secret: 'my-super-secret-key-for-doorbell-production-2026' }, [[ERROR, 'secret']]],
        [{ secret: 'replace-this-with-a-long-random-string-1234567890' }, [[ERROR, 'secret']]],
        [{ metrics: { token: 'qwertyuiopasdfghjklzxcvbnm123456' } }, [[ERROR, 'metrics.token']]],
        [{ secret: hex(), metrics: { token: hex().toUpperCase() } }, []],
      ] as [ConfigInput, unknown[]][]) {
        const stage = await openStage(t, { engine, cast: false, config: { ...production, ...random, ...values } })
        assert.deepEqual(namedBy(stage), expected, JSON.stringify(values))
      }
    })

    test('never appear in the log themselves', async (t) => {
      const stage = await openStage(t, { engine, cast: false, config: { ...production, ...weak } })
      const log = stage.logLines.join('')
      const values = [
        weak.secret,
        weak.metrics.token,
        weak.deviceWebhook.secret,
        ...weak.clients.map(({ client_secret }) => client_secret!),
        ...weak.users.map(({ password }) => password),
      ]
      for (const value of values) assert.ok(!log.includes(value), value)
    })

    test('are not named in development, nor where there are none', async (t) => {
      const inDevelopment = await openStage(t, { engine, cast: false, config: weak })
      assert.deepEqual(namedBy(inDevelopment), [])
      const [clients, users] = [weak.clients.slice(2), weak.users.slice(2)]
      const strong = { ...production, secret: newSecret(), metrics: { token: newSecret() }, clients, users }
      assert.deepEqual(namedBy(await openStage(t, { engine, cast: false, config: strong })), [])
    })
  })
}

function linesAbout(stage: Stage): Record<string, unknown>[] {
  const lines = stage.logLines.map((line) => JSON.parse(line) as Record<string, unknown>)
  return lines.filter(({ event }) => event === 'config.weak_value')
}

const namedBy = (stage: Stage) => linesAbout(stage).map(({ level, setting }) => [level, setting])
