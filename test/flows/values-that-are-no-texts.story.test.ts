/**
 * Values of other types where a text is expected. `String()` throws for an object whose `toString` and `valueOf` are
 * not functions, and JSON can contain such an object wherever it can contain a text.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { schemaFor } from '../../src/client/metadata/metadata-schema.ts'
import { asserted, assertionOf, newKey, pollClient } from '../support/assertions.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ana, CIBA, openStage, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor } from '../support/visitor.ts'
import { opened, poll } from './registration-calls.ts'

/** An object that cannot be converted to a text, a number or a primitive value. */
const spiteful = { toString: 1, valueOf: 1 }

const acr = (request: object) => ({ id_token: { acr: { essential: true, ...request } } })

/** Claims whose values this server cannot use. */
const unusable: [string, claims: object][] = [
  ['an object as acr', acr({ value: spiteful })],
  ['an object in a list of acr', acr({ values: ['gold', spiteful] })],
  ['an object instead of a list of acr', acr({ values: spiteful })],
  ['an acr at userinfo', { userinfo: { acr: { value: spiteful } } }],
  ['null in a list of acr', acr({ values: [null] })],
  ['a number as acr', acr({ value: 7 })],
  ['nested lists', acr({ values: [[['gold']]] })],
  ['a list as the value', acr({ value: ['gold'] })],
  ['an empty acr', acr({ value: '' })],
  ['an acr beyond ASCII', acr({ value: '€' })],
  ['an acr with a line break', acr({ value: 'a\r\nX: y' })],
  ['an acr with a quote', acr({ value: 'a", scope="x' })],
  ['an acr with a backslash', acr({ value: 'a\\' })],
  ['an acr with a space', acr({ value: 'gold silver' })],
  ['an acr longer than a header', acr({ value: 'a'.repeat(15_000) })],
  ['many of acr, together longer than a header', acr({ values: Array(400).fill('gold') })],
  ['an object as sub', { id_token: { sub: { value: spiteful } } }],
  ['an object in a list of sub', { id_token: { sub: { values: [ana.id, spiteful] } } }],
]

/** Stores a value in the row of a request, as an earlier version stored it without checking it. */
async function storeAsBefore(stage: Stage, requestId: string, column: string, value: unknown): Promise<void> {
  const sql = `update backchannel_auth_requests set ${column} = $1 where id = $2 returning id`
  assert.equal((await rowsOf(stage, sql, [JSON.stringify(value), requestId])).length, 1)
}

for (const engine of engines) {
  describe(`claims, on ${engine.name}`, () => {
    test('values of acr and sub that are no usable texts are refused, and ask nobody', async (t) => {
      const stage = await openStage(t, { engine })
      for (const [name, claims] of unusable) {
        const { status, body } = await stage.ring('kiosk', { claims: JSON.stringify(claims) })
        assert.deepEqual([status, body.error], [400, 'invalid_request'], name)
        assert.match(String(body.error_description), /in claims, value and values/, name)
      }
      assert.deepEqual(await stage.waiting(), [])
      for (const value of ['urn:mace:incommon:iap:silver', "it's/1.0_(x)~!"]) {
        const { status } = await stage.ring('kiosk', { claims: JSON.stringify(acr({ value })) })
        assert.equal(status, 200, value)
        stage.clock.advance(1)
      }
    })

    test('stored by an earlier version, they hide no other request, and can be seen and denied', async (t) => {
      const stage = await openStage(t, { engine, config: { requests: { maxOpenPerUser: 50 } } })
      const stored: { name: string; id: string }[] = []
      for (const [name, claims] of unusable) {
        assert.equal((await stage.ring('kiosk')).status, 200)
        const id = await stage.newestRequest()
        await storeAsBefore(stage, id, 'claims', claims)
        stored.push({ name, id })
        stage.clock.advance(1)
      }
      await stage.ring('till', { binding_message: 'Honest' })
      const honest = await stage.newestRequest()

      const authorization = await bearerOf(stage)
      const list = await stage.get('/backchannel/authinfo?status=pending', { authorization })
      assert.equal(list.status, 200, list.text)
      const shown = (list.body.requests as { request_id: string }[]).map(({ request_id }) => request_id)
      assert.deepEqual(shown.toSorted(), [honest, ...stored.map(({ id }) => id)].toSorted())
      const visitor = openVisitor(stage.url)
      const page = await visitor.signIn(ana)
      assert.deepEqual([page.status, page.text.includes('Honest')], [200, true])

      for (const { name, id } of stored) {
        assert.equal((await visitor.get(`/approve/${id}`)).status, 200, name)
        // A `values` that is no list is ignored.
        if (/acr(?! at)|list/.test(name) && !/instead|sub/.test(name)) {
          const form = { request_id: id, status: 'approved' }
          const approval = await stage.post('/backchannel/complete', form, authorization)
          assert.deepEqual([approval.status, approval.body.error], [401, 'insufficient_user_authentication'], name)
          assert.match(
            approval.headers.get('www-authenticate') ?? '',
            /^Bearer realm="doorbell", error="insufficient_user_authentication"(, acr_values="gold")?$/,
            name,
          )
        }
        const form = { request_id: id, status: 'denied' }
        const denial = await stage.post('/backchannel/complete', form, authorization)
        assert.equal(denial.status, 200, `${name} ${denial.text}`)
      }
      assert.equal((await visitor.get('/activity')).status, 200)
    })
  })

  test(`a row that cannot be described is shown as it is stored, and hides no other, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine })
    const authorization = await bearerOf(stage)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    await stage.ring('till', { binding_message: 'Honest' })
    const honest = await stage.newestRequest()
    stage.clock.advance(1)
    await stage.ring('kiosk')
    const id = await stage.newestRequest()
    await storeAsBefore(stage, id, 'authorization_details', [null, { type: spiteful }])

    const list = await stage.get('/backchannel/authinfo?status=pending', { authorization })
    assert.equal(list.status, 200, list.text)
    const [bad, good] = list.body.requests as Record<string, unknown>[]
    assert.deepEqual([bad!.request_id, good!.request_id], [id, honest])
    const lines = ['null', '{"type":{"toString":1,"valueOf":1}}'].map((line) => ({ lines: [line] }))
    assert.deepEqual(bad!.authorization_details_text, lines)
    const page = await visitor.get('/')
    assert.deepEqual([page.status, page.text.includes('Honest')], [200, true])
    assert.match((await visitor.get(`/approve/${id}`)).text, /toString/)
    const noted = () => stage.logLines.filter((line) => line.includes('"request.not_described"')).length
    assert.ok(noted() > 0)

    const denial = await stage.post('/backchannel/complete', { request_id: id, status: 'denied' }, authorization)
    assert.equal(denial.status, 200, denial.text)
    const activity = await stage.get('/backchannel/activity', { authorization })
    assert.equal(activity.status, 200, activity.text)
    const [denied] = activity.body.activity as Record<string, unknown>[]
    assert.deepEqual([denied!.request_id, denied!.authorization_details_text], [id, lines])
  })
}

/** Values of `typ` whose JSON type is not allowed. */
const noTypes: unknown[] = [spiteful, ['jwt'], 7, true, null, {}, [spiteful], 'at+jwt', '']

for (const engine of engines) {
  test(`an account that contains NUL when decoded is one of an unknown user, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine, config: { limits: { perClient: { unknownPerMinute: 4 } } } })
    const nul = { format: 'account', uri: 'acct:%00x' }
    for (const hint of [
      nul,
      { format: 'account', uri: 'acct:ana%00@example.com' },
      { format: 'aliases', identifiers: [nul, nul, nul] },
      { format: 'account', uri: 'acct:%ed%a0%80' },
    ]) {
      const { status, body } = await stage.ring('kiosk', { login_hint: JSON.stringify(hint) })
      assert.deepEqual([status, body.error], [400, 'unknown_user_id'], JSON.stringify(hint))
    }
    const counted = await stage.ring('kiosk', { login_hint: JSON.stringify(nul) })
    assert.deepEqual([counted.status, counted.body.error], [429, 'access_denied'])
    assert.ok(!stage.logLines.some((line) => line.includes('unchecked')))
    const other = await stage.ring('till', { login_hint: JSON.stringify({ format: 'account', uri: 'acct:a%6ea' }) })
    assert.equal(other.status, 200, 'an account is decoded')
  })
}

test('a client assertion whose typ is no text, or of another kind of JWT, authenticates nobody', async (t) => {
  const key = await newKey('one')
  const bank = pollClient('bank', { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [key.publicJwk] } })
  const stage = await openStage(t, { config: { clients: [bank] } })
  for (const path of ['/backchannel/authorize', '/oauth/token', '/oauth/introspect', '/backchannel/clientconfig']) {
    // A typ that is null counts as absent.
    for (const typ of noTypes.filter((typ) => typ !== null)) {
      const header = { typ } as { typ: string }
      const assertion = await assertionOf(stage, 'bank', { key: key.privateKey, header })
      const form = { scope: 'openid', login_hint: 'ana', grant_type: CIBA, auth_req_id: 'x', token: 'x' }
      const { status, body } = await stage.post(path, { ...form, ...asserted(assertion) })
      assert.deepEqual([status, body.error], [401, 'invalid_client'], `${path} ${JSON.stringify(typ)}`)
    }
  }
})

test('metadata of other types is refused, at registration and when it is replaced', async (t) => {
  const { stage, register, send } = await opened(t)
  const jwks = { keys: [(await newKey('one')).publicJwk] }
  for (const base of [
    { ...poll, token_endpoint_auth_method: 'client_secret_jwt', token_endpoint_auth_signing_alg: 'HS256' },
    { ...poll, token_endpoint_auth_method: 'private_key_jwt', jwks, backchannel_user_code_parameter: false },
    { redirect_uris: ['https://a.example/cb'], scope: 'openid', client_name: 'Shop' },
  ]) {
    const made = await register(base)
    assert.equal(made.status, 201, made.text)
    const { client_id, registration_client_uri: uri, registration_access_token: token } = made.body
    const setByServer = ['client_id', 'client_secret']
    const names = Object.keys(schemaFor({ development: true }).shape)
    // The server replaces this value.
    for (const name of names.filter((each) => each !== 'backchannel_user_code_parameter')) {
      for (const value of [spiteful, [spiteful]]) {
        const odd = { ...base, [name]: value }
        const added = await register(odd)
        stage.clock.advance(3_600_000)
        const replaced = await send('PUT', String(uri), { ...odd, ...(name !== 'client_id' && { client_id }) }, token)
        assert.equal(added.status, setByServer.includes(name) ? 201 : 400, `${name} ${added.text}`)
        assert.equal(replaced.status, 400, `${name} ${replaced.text}`)
      }
    }
  }
})
