/** Anonymous attempts to register are counted one at a time; a caller that disconnects while waiting is not counted. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beforeSteps } from '../support/before-steps.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

for (const engine of engines) {
  test(`of callers that disconnect while their attempts wait none is counted, and their places are free, on ${engine.name}`, async (t) => {
    const gate = createGate()
    let counting = 0
    const openDatabase = beforeSteps(/registration_attempts/, async () => {
      counting += 1
      await gate.pass()
    })
    const config = {
      proxy: { trust: ['127.0.0.1/32', '::1'] },
      registration: { mode: 'open', perHour: 3 },
    } as const
    const stage = await openStage(t, {
      engine,
      config: { ...config, proxy: { trust: [...config.proxy.trust] } },
      parts: { openDatabase },
    })
    const register = (address: string, signal?: AbortSignal) =>
      fetch(`${stage.url}/oauth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-forwarded-for': address },
        body: JSON.stringify({ redirect_uris: ['https://a.example/cb'], grant_types: ['authorization_code'] }),
        ...(signal && { signal }),
      }).then(({ status }) => status)

    gate.hold()
    t.after(gate.release)
    const first = register('198.51.100.1')
    await until(() => counting === 1)
    for (let round = 0; round < 2; round++) {
      const gone = new AbortController()
      let refused = 0
      const waiting = Array.from({ length: 40 }, async () => {
        if ((await register('198.51.100.2', gone.signal)) === 503) refused += 1
      })
      const left = Promise.allSettled(waiting)
      // The queue accepts 32 callers of this network. The first caller is one of them.
      await until(() => refused === 9)
      gone.abort()
      await left
      // After these calls, the server has noticed that the callers are gone.
      for (let call = 0; call < 5; call++) await stage.get('/health/live')
    }
    const last = register('198.51.100.4')
    gate.release()
    assert.deepEqual([await first, await last], [201, 201])
    assert.equal(counting, 2)
    const counted = await rowsOf(stage, 'select attempts from registration_attempts')
    assert.deepEqual(
      counted.map(({ attempts }) => attempts),
      [2],
    )
  })
}
