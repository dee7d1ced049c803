/**
 * Anonymous calls that wait for a look-up take only a limited part of the slots, so that other callers are not refused.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { createGate } from '../support/gate.ts'
import { basic, CIBA, openStage } from '../support/stage.ts'
import { until } from '../support/until.ts'

type Row = [name: string, method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, status: number, more?: Call]
interface Call {
  mode?: 'open' | 'token'
  /** A form, as a client sends it. It names clients that do not exist. */
  form?: Record<string, string>
  /** Whether the client sends a secret in the header. */
  isBasic?: boolean
}

const cibaPaths = ['/backchannel/authorize', '/backchannel/clientconfig', '/backchannel/authinfo']
const polling = { grant_type: CIBA, auth_req_id: 'x', token: 'x' }

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
  // Look-ups of clients that do not exist.
  [
    'a token for a named client',
    'POST',
    '/oauth/token',
    401,
    { form: { grant_type: 'authorization_code', code: 'x' } },
  ],
  ['a revocation of a named client', 'POST', '/oauth/revoke', 401, { form: { token: 'x' } }],
  ...['/oauth/token', '/oauth/introspect', '/oauth/revoke', ...cibaPaths].flatMap((path): Row[] => [
    [`a client with a secret in the header at ${path}`, 'POST', path, 401, { form: polling, isBasic: true }],
    [`a client with a secret in the form at ${path}`, 'POST', path, 401, { form: { ...polling, client_secret: 'x' } }],
  ]),
]

/** Matches the statements with which these calls look up clients, tokens and registrations. */
const lookUps =
  /from clients where id = \$1|registration_token_hash = \$2|initial_access_tokens|registered_from = \$1|from oidc_models\b.*\bid_hash = /s

for (const engine of engines) {
  describe(`eight anonymous calls at once, of eight slots, on ${engine.name}`, () => {
    for (const [name, method, path, status, { mode = 'token', form, isBasic } = {}] of anonymous) {
      test(`${name}: hold a share of the slots, and an honest client is served`, async (t) => {
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
        // From now on, the server knows this address as an address of both clients.
        await stage.poll('kiosk', 'unknown')
        await stage.waiting()
        let number = 0
        const call = () => {
          number += 1
          const id = `unknown${number}`
          if (form !== undefined) {
            const body = new URLSearchParams({ ...form, ...(!isBasic && { client_id: id }) })
            return fetch(stage.url + path, { method, body, headers: isBasic ? { authorization: basic(id, 'x') } : {} })
          }
          const body = method === 'GET' || method === 'DELETE' ? undefined : '{}'
          const headers = { authorization: `Bearer ${id}`, 'content-type': 'application/json' }
          return fetch(stage.url + path, { method, headers, ...(body !== undefined && { body }) })
        }
        gate.hold()
        const answers: number[] = []
        const calls = Array.from({ length: 8 }, async () => {
          const answer = await call()
          await answer.arrayBuffer()
          answers.push(answer.status)
        })
        // Calls that name different clients may take half of the slots, and all other calls a third.
        const refused = form === undefined ? 5 : 4
        await until(() => answers.length === refused)
        assert.deepEqual(answers, Array(refused).fill(503))
        const { body, text } = await stage.poll('kiosk', 'unknown')
        assert.equal(body.error, 'invalid_grant', text)
        assert.deepEqual(await stage.waiting(), [], 'the device service is served')
        gate.release()
        await Promise.all(calls)
        assert.deepEqual(answers.slice(refused), Array(8 - refused).fill(status))
      })
    }
  })
}
