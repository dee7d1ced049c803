/** Authorization details that are refused in a request, and types that the configuration refuses. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { loadConfig } from '../../src/config/load.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { basic, openStage } from '../support/stage.ts'
import { countRows } from '../support/tables.ts'
import { accounts, type Detail, json, limit, payment, refused, types, withTypes } from './detail-types.ts'

describe('details that are refused in a request', () => {
  const many = (count: number, detail: Detail = limit) => Array.from({ length: count }, () => detail)
  const nested = (levels: number): unknown => (levels === 0 ? 1 : { a: nested(levels - 1) })
  const wrong: [string, unknown][] = [
    ['no JSON', '[{'],
    ['a text', '"payment_initiation"'],
    ['an object', payment],
    ['a number', 5],
    ['null', null],
    ['an empty list', []],
    ['a null in the list', [null]],
    ['a list in the list', [[payment]]],
    ['no type', [{ amount: 1 }]],
    ['a type that is a number', [{ ...payment, type: 1 }]],
    ['an unknown type', [{ type: 'crypto' }]],
    ['a type named like a built-in property', [{ type: 'constructor' }]],
    ['a type in other upper and lower case', [{ ...payment, type: 'Payment_initiation' }]],
    ['a known and an unknown type', [payment, { type: 'crypto' }]],
    ['an unknown field', [{ ...payment, urgent: true }]],
    ['an unknown field that the schema would drop', [{ ...limit, least: 1 }]],
    ['an unknown nested field', [{ ...limit, nested: { a: 1, b: 2 } }]],
    ['an unknown field beside a JSON Schema', [{ ...accounts, iban: 'x' }]],
    ['a field of the wrong type', [{ ...payment, amount: '123.50' }]],
    ['a value that is not allowed', [{ ...accounts, actions: ['write'] }]],
    ['a missing field', [{ type: 'payment_initiation', amount: payment.amount }]],
    ['locations that are not a list', [{ ...payment, locations: 'https://api.example' }]],
    ['an empty location', [{ ...payment, locations: [''] }]],
    ['a number that cannot be stored exactly', `[{"type":"limit","most":1e999}]`],
    ['a number that would be rounded', `[{"type":"limit","most":12345678901234567890}]`],
    ['__proto__', `[{"type":"limit","most":1,"__proto__":{"a":1}}]`],
    ['a NUL', [{ ...payment, creditor: 'a\0b' }]],
    ['half a surrogate pair', `[{"type":"payment_initiation","creditor":"\\ud800"}]`],
    ['too many', many(21)],
    ['too deep', [{ ...limit, nested: nested(8) }]],
    ['nested so deeply that it could exhaust the stack', `${'['.repeat(8000)}${']'.repeat(8000)}`],
    ['too long (16 KiB)', [{ ...payment, creditor: 'x'.repeat(16 * 1024) }]],
    ['too long only because of spaces', `${JSON.stringify([payment])}${' '.repeat(16 * 1024)}`],
  ]
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

  test('each of these is an invalid_authorization_details, and nothing is stored (RA-3)', async (t) => {
    const stage = await openStage(t, withTypes())
    for (const [what, value] of wrong) {
      const answer = await stage.ring('kiosk', { authorization_details: text(value) })
      refused(answer, 'invalid_authorization_details', what)
      assert.match(String(answer.body.error_description), /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/)
    }
    assert.equal((await countRows(stage)).backchannel_auth_requests, 0)
    assert.equal((await stage.ring('kiosk', json(...many(20)))).status, 200)
    assert.equal((await stage.ring('kiosk', { authorization_details: '' })).status, 200, 'empty is absent (RQ-9)')
  })

  test('a server without declared types refuses the parameter, so that no user approves details that were not shown', async (t) => {
    const stage = await openStage(t)
    refused(await stage.ring('kiosk', json(payment)), 'invalid_authorization_details')
  })

  test('a client that registered types may use these and no others (RA-8)', async (t) => {
    const clients = [pollClient('narrow', { client_secret: 'narrow-secret', authorization_details_types: ['limit'] })]
    const stage = await openStage(t, withTypes({ config: { clients } }))
    const sendRequest = (...details: Detail[]) =>
      stage.post(
        '/backchannel/authorize',
        { scope: 'openid', login_hint: 'ana', ...json(...details) },
        basic('narrow', 'narrow-secret'),
      )
    assert.equal((await sendRequest(limit)).status, 200)
    refused(await sendRequest(payment), 'invalid_authorization_details')
    refused(await sendRequest(limit, payment), 'invalid_authorization_details')
    await assert.rejects(
      openStage(t, {
        config: { clients: [pollClient('x', { client_secret: 'y', authorization_details_types: ['limit'] })] },
      }),
      /clients\[0?\d*\]\.authorization_details_types contains a type that this server does not support/,
    )
  })

  test('the metadata list the types, if there are any; registration accepts them (RA-8)', async (t) => {
    const stage = await openStage(t, withTypes({ config: { registration: { mode: 'open' } } }))
    const { body } = await stage.get('/.well-known/openid-configuration')
    assert.deepEqual(body.authorization_details_types_supported, Object.keys(types))
    const register = (authorization_details_types: unknown) =>
      fetch(`${stage.url}/oauth/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          redirect_uris: ['https://c.example/cb'],
          grant_types: ['authorization_code'],
          authorization_details_types,
        }),
      })
    const good = await register(['limit'])
    assert.equal(good.status, 201)
    assert.deepEqual(((await good.json()) as Record<string, unknown>).authorization_details_types, ['limit'])
    for (const types of [['crypto'], 'limit', [5]]) assert.equal((await register(types)).status, 400)
    const plain = await openStage(t)
    const metadata = (await plain.get('/.well-known/openid-configuration')).body
    assert.ok(!('authorization_details_types_supported' in metadata))
  })

  test('are refused at the authorization endpoint, where users would not see them', async (t) => {
    const stage = await openStage(t, withTypes())
    const query = new URLSearchParams({
      client_id: 'phone-app',
      response_type: 'code',
      scope: 'openid',
      redirect_uri: 'http://127.0.0.1/callback',
      code_challenge: newSecret(),
      code_challenge_method: 'S256',
      ...json(limit),
    })
    const { headers } = await stage.get(`/oauth/authorize?${query}`)
    assert.match(String(headers.get('location')), /error=invalid_authorization_details/)
  })
})

describe('the configuration of types', () => {
  const load = (authorizationDetails: unknown) =>
    loadConfig({
      env: {},
      overrides: { development: true, database: 'sqlite::memory:', authorizationDetails } as never,
    })
  const good = { schema: z.strictObject({}), describe: () => 'x' }

  test('reports each problem and the correct form', async () => {
    for (const [types, complaint] of [
      [5, 'authorizationDetails.types must be an object'],
      [{ a: 5 }, 'authorizationDetails.types.a must be an object with schema and describe'],
      [{ a: {} }, 'authorizationDetails.types.a.schema must be a schema of zod, or a JSON Schema'],
      [
        { a: { schema: good.schema } },
        'authorizationDetails.types.a.describe must be a function, or texts by language',
      ],
      [{ a: { ...good, describe: { en: 5 } } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, describe: {} } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, describe: { tlh: 'x' } } }, 'authorizationDetails.types.a.describe must be a function'],
      [{ a: { ...good, narrow: [] } }, 'authorizationDetails.types.a.narrow must be a list'],
      [{ a: { ...good, narow: ['b'] } }, 'authorizationDetails.types.a.narow is not a setting'],
      [
        { a: { ...good, schema: { type: 'string' } } },
        'authorizationDetails.types.a.schema must be a JSON Schema with',
      ],
      [
        { a: { ...good, schema: { type: 'object', if: {} } } },
        'authorizationDetails.types.a.schema is not a valid JSON Schema',
      ],
      [
        { a: { ...good, schema: z.object({ type: z.string() }) } },
        'authorizationDetails.types.a.schema must not contain "type"',
      ],
      [{ a: { ...good, schema: { type: 'object', properties: { type: {} } } } }, 'must not contain "type"'],
      [{ 'a b': good }, 'authorizationDetails.types.a b must have a name of printable ASCII without spaces'],
    ] as const) {
      await assert.rejects(load({ types }), (error: Error) => {
        assert.ok(error.message.includes(complaint), error.message)
        return true
      })
    }
    await assert.rejects(load({ typs: {} }), /authorizationDetails.typs is not a setting/)
  })
})
