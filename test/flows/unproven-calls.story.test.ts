/** Anonymous calls that wait for a look-up take only a share of the slots, so that other callers are not refused. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

type Row = [name: string, method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, status: number, more?: Call]
interface Call {
  mode?: 'open' | 'token'
}

const anonymous: Row[] = [
  ['reading a registration', 'GET', '/oauth/register/x', 401],
  ['replacing a registration', 'PUT', '/oauth/register/x', 401],
  ['removing a registration', 'DELETE', '/oauth/register/x', 401],
  ['registering with an unknown token', 'POST', '/oauth/register', 401],
  ['registering without a token', 'POST', '/oauth/register', 400, { mode: 'open' }],
  ['userinfo', 'GET', '/oauth/userinfo', 401],
  ...['authinfo', 'activity', 'passkeys', 'sessions', 'user-code'].map(
    (name): Row => [`the device API (${name})`, 'GET', `/backchannel/${name}`, 401],
  ),
  ['the device API (decisions)', 'POST', '/backchannel/complete', 401],
  ['the device API (push subscriptions)', 'POST', '/backchannel/push-subscriptions', 401],
]

/** What the calls look up. */
const lookUps =
  /registration_token_hash = \$2|initial_access_tokens|registered_from = \$1|from oidc_models\b.*\bid_hash = /s

for (const engine of engines) {
  describe(`eight anonymous calls at once, of eight slots, on ${engine.name}`, () => {
    for (const [name, method, path, status, { mode = 'token' } = {}] of anonymous) {
      test(`${name}: hold three slots, and an honest client is served`, async (t) => {
        const gate = createGate()
        const open: typeof openDatabase = async (...given) => {
          const database = await openDatabase(...given)
          const { read } = database
          database.read = async (sql, values) => {
            if (lookUps.test(sql)) await gate.pass()
            return read(sql, values)
          }
          return database
        }
        const config: ConfigInput = { limits: { inFlight: 8 }, registration: { mode } }
        const stage = await openStage(t, { engine, config, parts: { openDatabase: open } })
        t.after(gate.release)
        // From now on, both clients are known at this address.
        await stage.poll('kiosk', 'unknown')
        await stage.waiting()
        let number = 0
        const call = () => {
          number += 1
          const body = method === 'GET' || method === 'DELETE' ? undefined : '{}'
          const headers = { authorization: `Bearer unknown${number}`, 'content-type': 'application/json' }
          return fetch(stage.url + path, { method, headers, ...(body !== undefined && { body }) })
        }
        gate.hold()
        const answers: number[] = []
        const calls = Array.from({ length: 8 }, async () => {
          const answer = await call()
          await answer.arrayBuffer()
          answers.push(answer.status)
        })
        await until(() => answers.length === 5)
        assert.deepEqual(answers, [503, 503, 503, 503, 503])
        const { body, text } = await stage.poll('kiosk', 'unknown')
        assert.equal(body.error, 'invalid_grant', text)
        assert.deepEqual(await stage.waiting(), [], 'the device service is served')
        gate.release()
        await Promise.all(calls)
        assert.deepEqual(answers.slice(5), [status, status, status])
      })
    }
  })
}
