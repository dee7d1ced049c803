import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engines } from '../../../test/support/engines.ts'
import { systemClock } from '../../platform/clock.ts'
import { createVault, newSecret } from '../../platform/crypto.ts'
import { createLog } from '../../platform/log.ts'
import { migrate } from '../../platform/storage/migrate.ts'
import { openDatabase } from '../../platform/storage/open.ts'
import { createPushSubscriptionStore } from './push-subscription-store.ts'
import { createPushSubscriptions, readPushSubscription } from './push-subscriptions.ts'
import { createServerKeyStore } from './server-key-store.ts'
import { loadVapidKeys } from './vapid-keys.ts'

const secret = newSecret()
const vault = createVault(secret)
const clock = systemClock

for (const engine of engines) {
  describe(`on ${engine.name}`, () => {
    async function open() {
      const { url, drop } = await engine.fresh()
      const database = await openDatabase(url, { log: createLog('silent'), clock })
      await migrate(database, clock)
      const close = async () => {
        await database.close()
        await drop()
      }
      return { database, close }
    }

    test('nodes that start at once use one key, which is stored encrypted', async (t) => {
      const { database, close } = await open()
      t.after(close)
      const keys = createServerKeyStore(database)
      const loaded = await Promise.all([1, 2, 3].map(() => loadVapidKeys({ keys, vault, clock })))
      assert.equal(new Set(loaded.map(({ privateKey }) => privateKey)).size, 1)
      assert.deepEqual(await loadVapidKeys({ keys, vault, clock }), loaded[0])
      assert.ok(!JSON.stringify(await keys.find('vapid')).includes(loaded[0]!.privateKey))
      await assert.rejects(loadVapidKeys({ keys, vault: createVault(newSecret()), clock }), /another secret/)
    })

    test('each endpoint has one subscription, and the newest twenty of a user are kept', async (t) => {
      const { database, close } = await open()
      t.after(close)
      let now = 1_000
      const store = createPushSubscriptionStore(database)
      const subscriptions = createPushSubscriptions({ store, vault, clock: { ...clock, now: () => now++ } })
      const browser = (number: number) => ({
        endpoint: `https://push.example/${number}`,
        keys: { p256dh: 'p', auth: 'a' },
      })

      await subscriptions.add('ana', browser(0))
      await subscriptions.add('ana', browser(0))
      assert.equal((await subscriptions.of('ana')).length, 1)
      await subscriptions.add('ben', browser(0))
      assert.deepEqual([await subscriptions.has('ana'), await subscriptions.has('ben')], [false, true])
      assert.equal(await subscriptions.remove('ana', browser(0).endpoint), false, 'not hers any more')
      assert.deepEqual(await store.users(), ['ben'])

      for (let number = 1; number <= 22; number++) await subscriptions.add('ana', browser(number))
      const kept = (await subscriptions.of('ana')).map(({ endpoint }) => endpoint)
      assert.deepEqual(
        [kept.length, kept.includes(browser(2).endpoint), kept.includes(browser(3).endpoint)],
        [20, false, true],
      )
      assert.equal(await subscriptions.remove('ana', browser(3).endpoint), true)

      const [row] = await store.listForUser('ben')
      assert.ok(!JSON.stringify(row).includes('push.example'))
    })
  })
}

test('an invalid push subscription is rejected', () => {
  const keys = { p256dh: Buffer.alloc(65, 4).toString('base64url'), auth: Buffer.alloc(16).toString('base64url') }
  const endpoint = 'https://push.example/x'
  const written = JSON.stringify({ endpoint, expirationTime: null, keys })
  assert.deepEqual(readPushSubscription(written), { endpoint, keys })
  assert.equal(readPushSubscription('nonsense'), undefined)
  for (const wrong of [
    null,
    {},
    { endpoint, keys: {} },
    { endpoint: 'x', keys },
    { endpoint: 'file:///etc/passwd', keys },
    { endpoint: `https://push.example/${'x'.repeat(2048)}`, keys },
    { endpoint, keys: { ...keys, auth: 'AAAA' } },
  ]) {
    assert.equal(readPushSubscription(JSON.stringify(wrong)), undefined)
  }
})
