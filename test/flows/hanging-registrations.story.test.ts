/**
 * Clients name a list of their sector when they register, and the fetch of this list hangs. Any caller may register.
 * Other users and clients are not affected.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { gather, openDocumentServer } from '../support/document-server.ts'
import { engines } from '../support/engines.ts'
import type { Answer } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'
import { assertOthersAreServed, attackers, manyNetworks, scene, underWay } from './hanging-fetches.ts'

describe('registration is open, and the list of a sector hangs', () => {
  const open = { registration: { mode: 'open', perHour: 1000 } } satisfies ConfigInput
  const metadata = { redirect_uris: ['https://a.example/cb'], grant_types: ['authorization_code'] }

  for (const engine of engines) {
    test(`hundreds of attempts, each with another address: few fetches, and others are served, on ${engine.name}`, async (t) => {
      const it = await scene(t, open, { engine })
      const calls = gather(
        Array.from({ length: 1000 }, (_, n) =>
          it.register(`${attackers}.${n % 200}`, { ...metadata, sector_identifier_uri: `${it.server.byName}?n=${n}` }),
        ),
      )
      await calls.allBut(underWay.eachNetwork)
      await until(() => it.server.asked() === underWay.eachNetwork)
      assert.deepEqual(calls.statuses(), [503])
      await assertOthersAreServed(it)
      // This client has another receiver and another network, so its list is fetched at once.
      const list = await openDocumentServer(t)
      list.publish(metadata.redirect_uris)
      const other = await it.register('203.0.113.9', { ...metadata, sector_identifier_uri: list.byAddress })
      assert.equal(other.status, 201, other.text)
      it.server.drop()
      await calls.all()
      assert.deepEqual(calls.statuses(), [400, 503])
      assert.equal(it.server.asked(), underWay.eachNetwork)
    })

    test(`ten thousand attempts from as many networks at one receiver: the limit of fetches for one receiver holds, on ${engine.name}`, async (t) => {
      const it = await scene(t, open, { engine })
      const calls = gather(
        Array.from({ length: 10_000 }, (_, n) =>
          it.register(manyNetworks(n), { ...metadata, sector_identifier_uri: `${it.server.byName}?n=${n}` }),
        ),
      )
      await calls.allBut(underWay.eachReceiver)
      await assertOthersAreServed(it)
      assert.ok(it.server.asked() <= underWay.eachReceiver)
      it.server.drop()
      await calls.all()
    })

    test(`a thousand updates of fifty registered clients, each with another list: few fetches, and others are served, on ${engine.name}`, async (t) => {
      const it = await scene(t, open, { engine })
      const registered: Answer[] = []
      for (let n = 0; n < 50; n++) registered.push(await it.register(manyNetworks(n), metadata))
      const calls = gather(
        Array.from({ length: 1000 }, (_, n) => {
          const sector_identifier_uri = `${it.server.byName}?n=${n}`
          return it.update(manyNetworks(n), registered[n % 50]!, { ...metadata, sector_identifier_uri })
        }),
      )
      await calls.allBut(underWay.eachReceiver)
      await assertOthersAreServed(it)
      assert.ok(it.server.asked() <= underWay.eachReceiver)
      it.server.drop()
      await calls.all()
    })

    test(`attempts of a network are limited to ten for each client that it may register, on ${engine.name}`, async (t) => {
      const it = await scene(t, { registration: { mode: 'open', perHour: 2 }, limits: { inFlight: 1000 } }, { engine })
      const wrong = { ...metadata, redirect_uris: ['nonsense'] }
      const tries = async (count: number, addressOf: (n: number) => string) => {
        const answers = await Promise.all(
          Array.from({ length: count }, (_, n) => it.register(addressOf(n), wrong).then(({ status }) => status)),
        )
        return [400, 429].map((status) => answers.filter((each) => each === status).length)
      }
      assert.deepEqual(await tries(30, (n) => `${attackers}.${n}`), [20, 10])
      assert.equal((await it.register(`${attackers}.77`, metadata)).headers.get('retry-after'), '3600')
      assert.equal((await it.register('203.0.113.9', metadata)).status, 201, 'another network')
      assert.deepEqual(await tries(40, (n) => `2001:db8:1:${n}::1`), [20, 20], 'one /48')
      assert.deepEqual(await tries(1, () => '2001:db8:2::1'), [1, 0])
      it.stage.clock.advance(3600_000)
      assert.deepEqual(await tries(1, () => `${attackers}.1`), [1, 0])
      await until(async () => {
        // The sweep removes expired counters once a minute.
        it.stage.clock.advance(60_000)
        return (await rowsOf(it.stage, 'select attempts from registration_attempts')).length === 1
      })
    })
  }
})
