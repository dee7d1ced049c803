/** Signing keys change during operation: no request fails, and every token verifies with a cached key set. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  type JSONWebKeySet,
  jwtVerify,
} from 'jose'
import * as openid from 'openid-client'
import type { ConfigInput } from '../../src/config/config.ts'
import {
  keyTimesOf,
  type RotationNeeds,
  revokeKey,
  rotateKey,
} from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { collect, playedBy } from '../support/foreign-client.ts'
import { type Neighbour, openNeighbour } from '../support/neighbour.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { startSignIn } from '../support/phone-app.ts'
import { rotateAt as rotateBeside, untilNoticed } from '../support/rotating-keys.ts'
import { ana, CIBA, credentials, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { until } from '../support/until.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/**
 * ID tokens are valid for an hour, and keys are published an hour ahead (the defaults). Hints with former keys are
 * accepted for a month.
 */
const settings = { keys: { publishAhead: 3600, keepForHints: 30 * 24 * 3600 }, tokens: { idTtl: 3600, accessTtl: 600 } }

for (const engine of engines) {
  describe(`a rotation of signing keys, on ${engine.name}`, () => {
    test('during requests and polls: none fails, and every ID token verifies with any key set that is still fresh', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const remote = nodes.map(({ url }) => createRemoteJWKSet(new URL(`${url}/oauth/jwks`)))
      const start = stage.clock.now()
      const fetched: { at: number; keys: JSONWebKeySet; maxAge: number }[] = []
      const given: { token: string; at: number }[] = []
      const signers = new Set<string>()

      const look = async () => {
        for (const [n, node] of nodes.entries()) {
          const { body, headers } = await node.get('/oauth/jwks')
          const maxAge = Number(/^public, max-age=(\d+)$/.exec(headers.get('cache-control') ?? '')?.[1]) * 1000
          assert.equal(maxAge, 30 * minute)
          fetched.push({ at: stage.clock.now(), keys: body as never, maxAge })
          await remote[n]!.reload()
        }
      }
      const verify = async (token: string, { at }: { at: number }) => {
        const now = stage.clock.now()
        const fresh = fetched.filter((set) => set.at <= at && now < set.at + set.maxAge)
        const sets = [...fresh.map(({ keys }) => createLocalJWKSet(keys)), ...remote]
        for (const keys of sets) await jwtVerify(token, keys, { issuer: stage.url, audience: 'kiosk' })
      }
      /** Runs eight flows at once, on all nodes. `meanwhile` is called while they are in progress. */
      const traffic = async (meanwhile: () => unknown = () => {}) => {
        const flows = Array.from({ length: 8 }, (_, n) => flow(nodes[n % nodes.length]!, nodes.at(-1)!))
        const happening = meanwhile()
        for (const token of await Promise.all(flows)) {
          signers.add(decodeProtectedHeader(token).kid!)
          await verify(token, { at: stage.clock.now() })
          given.push({ token, at: stage.clock.now() })
        }
        await happening
      }
      const step = async (milliseconds: number) => {
        stage.clock.advance(milliseconds)
        // Tokens that were issued earlier and have not expired can still be verified with the published keys.
        for (const { token, at } of given) if (stage.clock.now() < at + hour) await verify(token, { at: start })
      }

      await look()
      await traffic()
      await traffic(() => rotateAt(stage, (needs) => rotateKey('ES256', {}, needs)))
      await allNodesPublish(stage, nodes, 3)
      const firstKeys = [...signers]
      assert.equal(firstKeys.length, 1)

      // Clients use cached key sets as long as they may, also those that were fetched before the new key was published.
      while (stage.clock.now() < start + hour - 5 * minute) {
        await step(5 * minute)
        if (stage.clock.now() >= fetched.at(-1)!.at + 25 * minute) await look()
        await traffic()
      }
      assert.deepEqual([...signers], firstKeys, 'the next key does not sign before its time')
      // The next key begins to sign while these flows are in progress.
      await traffic(() => step(start + hour - stage.clock.now() + 10_000))
      signers.clear()
      await traffic()
      assert.equal(signers.size, 1)
      assert.ok(!signers.has(firstKeys[0]!), 'from then on, it alone signs')

      // The former key stays published until the tokens that it signed have expired.
      for (let n = 0; n < 12; n++) {
        await step(5 * minute)
        await look()
      }
      await step(10 * minute)
      const { keys } = (await nodes[0]!.get('/oauth/jwks')).body as unknown as JSONWebKeySet
      assert.deepEqual(new Set(keys.map(({ kty }) => kty)), new Set(['EC', 'RSA']))
      assert.equal(keys.length, 2)
      assert.ok(!keys.some(({ kid }) => kid === firstKeys[0]))
      await traffic()
      assert.equal(problems(stage).length, 0, problems(stage).join('\n'))
    })

    test('--now: nodes sign with the new key at once; an independent client that meets an unknown key fetches the set again', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const kiosk = await playedBy(stage, 'kiosk')
      const first = await ringAndCollect(stage, kiosk)
      await rotateAt(stage, (needs) => rotateKey('ES256', { atOnce: true }, needs))
      await allNodesPublish(stage, nodes, 3)
      const again = await playedBy(stage, 'kiosk')
      const second = await ringAndCollect(stage, again)
      assert.notEqual(decodeProtectedHeader(second.id_token!).kid, decodeProtectedHeader(first.id_token!).kid)
      for (const node of nodes) {
        const keys = createRemoteJWKSet(new URL(`${node.url}/oauth/jwks`))
        await jwtVerify(first.id_token!, keys)
        await jwtVerify(second.id_token!, keys)
      }
    })

    test('--revoke: the key leaves the key set at once and verifies nothing, not even hints; other keys are not affected', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const lost = await flow(nodes[0]!, nodes.at(-1)!)
      const { kid } = decodeProtectedHeader(lost)
      assert.equal((await hinted(stage, lost)).status, 200)
      await rotateAt(stage, (needs) => revokeKey(kid!, needs))
      await allNodesHave(stage, nodes, (keys) => !keys.some((key) => key.kid === kid))
      for (const node of nodes) {
        const keys = createRemoteJWKSet(new URL(`${node.url}/oauth/jwks`))
        await assert.rejects(jwtVerify(lost, keys), { code: 'ERR_JWKS_NO_MATCHING_KEY' })
        const hint = { scope: 'openid', binding_message: 'x', id_token_hint: lost }
        const refused = await node.post('/backchannel/authorize', hint, credentials.kiosk)
        assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_request'])
        const token = await flow(node, nodes[0]!)
        await jwtVerify(token, keys)
        assert.equal((await hinted(stage, token)).status, 200)
      }
      assert.equal((await logOut(stage, lost)).status, 400)
    })

    test('hints are accepted for the configured time after their key has left the key set, and no longer (SC-6)', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const node = nodes.at(-1)!
      const token = await flow(node, node)
      const { kid } = decodeProtectedHeader(token)
      await rotateAt(stage, (needs) => rotateKey('ES256', { atOnce: true }, needs))
      await allNodesPublish(stage, nodes, 3)
      const retiredAt = stage.clock.now()
      stage.clock.advance(day)
      await allNodesHave(stage, nodes, (keys) => !keys.some((key) => key.kid === kid))
      assert.equal((await hinted(stage, token)).status, 200)
      // There is no session, so the user has nothing to confirm.
      assert.equal((await logOut(stage, token)).status, 303, 'nor does the user have to stay signed in')
      stage.clock.advance(retiredAt + 30 * day - minute - stage.clock.now())
      assert.equal((await hinted(stage, token)).status, 200)
      stage.clock.advance(minute)
      const refused = await hinted(stage, token)
      assert.deepEqual([refused.status, refused.body.error], [400, 'invalid_request'])
      assert.equal((await logOut(stage, token)).status, 400)
      stage.clock.advance(2 * minute)
      await until(async () => {
        stage.clock.advance(1000)
        return (await rowsOf(stage, 'select kid from signing_keys where kid = $1', [kid!])).length === 0
      })
    })

    test('a sign-in that has begun when the keys change can be completed', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const { browser, page, tokens } = await startSignIn(stage)
      const turn = async (generation: number) => {
        await rotateAt(stage, (needs) => rotateKey('ES256', { atOnce: true }, needs))
        await allNodesPublish(stage, nodes, 1 + generation)
      }
      await turn(2)
      const consent = await browser.submit(page, { name: 'ana', password: ana.password })
      assert.match(consent.text, /see requests that wait for your approval/)
      await turn(3)
      const end = await browser.submit(consent)
      const { access_token } = await tokens(end.url)
      await turn(4)
      const authorization = `Bearer ${access_token}`
      for (const node of nodes) {
        assert.equal((await node.get('/oauth/userinfo', { authorization })).body.sub, 'user-ana')
        assert.equal((await node.get('/backchannel/authinfo', { authorization })).status, 200)
      }
    })

    test('refresh and userinfo work whichever key signed before; push and RSA do too', async (t) => {
      const till = await openNotificationEndpoint(t)
      const rsa: ConfigInput['clients'] = [
        {
          client_id: 'rsa-kiosk',
          client_secret: 'a secret that is long enough for a test',
          grant_types: [CIBA, 'refresh_token'],
          backchannel_token_delivery_mode: 'poll',
          id_token_signed_response_alg: 'PS256',
        },
      ]
      const { stage, nodes } = await staged(t, { engine, till: till.url, config: { clients: rsa } })
      const { auth_req_id } = (await stage.ring('kiosk', { scope: 'openid offline_access' })).body
      await stage.decide(await stage.newestRequest(), 'approved')
      const before = (await stage.poll('kiosk', auth_req_id)).body
      for (const algorithm of ['ES256', 'RS256'] as const) {
        await rotateAt(stage, (needs) => rotateKey(algorithm, { atOnce: true }, needs))
      }
      await allNodesPublish(stage, nodes, 4)
      const jwks = createRemoteJWKSet(new URL(`${stage.url}/oauth/jwks`))
      const refresh = { grant_type: 'refresh_token', refresh_token: String(before.refresh_token) }
      for (const node of nodes) {
        const { body, status } = await node.post('/oauth/token', refresh, credentials.kiosk)
        assert.equal(status, 200)
        const { protectedHeader } = await jwtVerify(String(body.id_token), jwks)
        assert.notEqual(protectedHeader.kid, decodeProtectedHeader(String(before.id_token)).kid)
        const bearer = { authorization: `Bearer ${before.access_token}` }
        assert.equal((await node.get('/oauth/userinfo', bearer)).body.sub, 'user-ana')
      }

      await stage.ring('till')
      await stage.decide(await stage.newestRequest(), 'approved')
      await till.hears(1)
      await jwtVerify(String(till.heard[0]!.body.id_token), jwks, { audience: 'till' })

      const basic = `Basic ${Buffer.from('rsa-kiosk:a+secret+that+is+long+enough+for+a+test').toString('base64')}`
      const ringing = { scope: 'openid', login_hint: 'ana', binding_message: 'x' }
      stage.clock.advance(1)
      const response = await stage.post('/backchannel/authorize', ringing, basic)
      await stage.decide(await stage.newestRequest(), 'approved')
      const poll = { grant_type: CIBA, auth_req_id: String(response.body.auth_req_id) }
      const { id_token } = (await stage.post('/oauth/token', poll, basic)).body
      const { protectedHeader } = await jwtVerify(String(id_token), jwks, { algorithms: ['PS256'] })
      const [newest] = await rowsOf(stage, "select kid from signing_keys where algorithm = 'RS256' and generation = 2")
      assert.equal(protectedHeader.kid, newest!.kid)
    })

    test('a server that starts in the middle of a rotation continues it', async (t) => {
      const { stage } = await staged(t, { engine, alone: true })
      const rotation = await rotateAt(stage, (needs) => rotateKey('ES256', {}, needs))
      await stage.restart()
      const signer = async () => decodeProtectedHeader(await flow(here(stage), here(stage))).kid
      assert.equal(await signer(), rotation.former!.kid)
      stage.clock.advance(hour)
      assert.equal(await signer(), rotation.next.kid)
      await stage.restart()
      assert.equal(await signer(), rotation.next.kid)
    })

    test('a key that a node cannot decrypt changes nothing: the node signs as before, logs it, and follows once the key is revoked', async (t) => {
      const { stage, nodes } = await staged(t, { engine })
      const broken = await rotateAt(stage, (needs) => {
        return rotateKey('ES256', { atOnce: true }, { ...needs, vault: createVault('x'.repeat(43)) })
      })
      await untilNoticed(stage, () => stage.logLines.some((line) => line.includes('keys.look_failed')))
      const token = await flow(nodes[0]!, nodes.at(-1)!)
      assert.equal(decodeProtectedHeader(token).kid, broken.former!.kid)
      const healed = await rotateAt(stage, (needs) => revokeKey(broken.next.kid, needs))
      await allNodesHave(stage, nodes, (keys) => keys.some(({ kid }) => kid === healed!.next.kid))
      assert.equal(decodeProtectedHeader(await flow(nodes[0]!, nodes[0]!)).kid, healed!.next.kid)
    })

    test('with keys.rotateEvery keys rotate automatically, at the same time on all nodes', async (t) => {
      const config: ConfigInput = { keys: { rotateEvery: 24 * 3600 } }
      const { stage, nodes } = await staged(t, { engine, config })
      const kids = async (): Promise<unknown[]> =>
        (await rowsOf(stage, 'select kid from signing_keys')).map(({ kid }) => kid)
      const first = await kids()
      stage.clock.advance(22 * hour)
      await allNodesPublish(stage, nodes, 2)
      stage.clock.advance(hour)
      await allNodesPublish(stage, nodes, 4)
      const signer = async () => decodeProtectedHeader(await flow(nodes[0]!, nodes.at(-1)!)).kid
      assert.ok(first.includes(await signer()))
      stage.clock.advance(hour)
      assert.ok(!first.includes(await signer()))
      assert.equal((await kids()).length, 4, 'of two nodes that noticed, one did it')
    })

    test('a node without workers rotates nothing, but follows', async (t) => {
      const config: ConfigInput = { keys: { rotateEvery: 24 * 3600 } }
      const { stage } = await staged(t, { engine, config, alone: true, parts: { workers: false } })
      stage.clock.advance(30 * day)
      await stage.restart()
      await flow(here(stage), here(stage))
      assert.equal((await rowsOf(stage, 'select kid from signing_keys')).length, 2)
      const { next } = await rotateAt(stage, (needs) => rotateKey('ES256', { atOnce: true }, needs))
      await allNodesHave(stage, [here(stage)], (keys) => keys.some(({ kid }) => kid === next.kid))
    })
  })
}

test('the key set says how long it may be cached, and has public members only (DM-10)', async (t) => {
  const stage = await openStage(t, { config: { keys: { publishAhead: 600 } } })
  const { body, headers, status } = await stage.get('/oauth/jwks')
  assert.equal(status, 200)
  assert.equal(headers.get('cache-control'), 'public, max-age=300')
  assert.equal(headers.get('content-type'), 'application/jwk-set+json; charset=utf-8')
  const members = (body.keys as object[]).flatMap(Object.keys)
  assert.deepEqual([...new Set(members)].sort(), ['alg', 'crv', 'e', 'kid', 'kty', 'n', 'use', 'x', 'y'])
})

test("an operator's own keys are left to oidc-provider and published as they are", async (t) => {
  const pair = await generateKeyPair('ES256', { extractable: true })
  const own = { ...(await exportJWK(pair.privateKey)), kid: 'our own', use: 'sig', alg: 'ES256' }
  const stage = await openStage(t, { config: { oidc: { jwks: { keys: [own] } } } })
  const { keys } = (await stage.get('/oauth/jwks')).body as unknown as JSONWebKeySet
  assert.deepEqual(
    keys.map(({ kid, d }) => [kid, d]),
    [['our own', undefined]],
  )
})

type Node = Pick<Neighbour, 'url' | 'get' | 'post'>

const here = (stage: Stage): Node => ({ url: stage.url, get: stage.get, post: stage.post })

/** Opens two nodes on Postgres, or one on SQLite, because only one process may use a SQLite file. */
async function staged(t: TestContext, { alone = false, ...options }: StageOptions & { alone?: boolean }) {
  const config = { ...options.config, keys: { ...settings.keys, ...options.config?.keys } }
  const stage = await openStage(t, { ...options, config })
  const nodes: Node[] = [here(stage)]
  if (options.engine!.name === 'postgres' && !alone) nodes.push(await openNeighbour(t, stage, { ...options, config }))
  return { stage, nodes }
}

/** Runs a rotation with the lifetimes of these tests. */
const rotateAt = <Result>(stage: Stage, rotate: (needs: RotationNeeds) => Promise<Result>): Promise<Result> =>
  rotateBeside(stage, keyTimesOf(settings), rotate)

/** Kiosk sends its request to one node, Ana decides at the other, and Kiosk polls at the first. */
async function flow(node: Node, other: Node): Promise<string> {
  const ringing = { scope: 'openid', login_hint: 'ana', binding_message: 'Coffee 4.20' }
  const response = await node.post('/backchannel/authorize', ringing, credentials.kiosk)
  assert.equal(response.status, 200, response.text)
  const authReqId = String(response.body.auth_req_id)
  const asked = { login_hint: 'ana', auth_req_id: authReqId }
  const decision = await other.post('/backchannel/complete', { ...asked, status: 'approved' }, credentials.phoneService)
  assert.equal(decision.status, 200, decision.text)
  const tokens = await node.post('/oauth/token', { grant_type: CIBA, auth_req_id: authReqId }, credentials.kiosk)
  assert.equal(tokens.status, 200, tokens.text)
  return String(tokens.body.id_token)
}

async function ringAndCollect(stage: Stage, kiosk: openid.Configuration) {
  const response = await openid.initiateBackchannelAuthentication(kiosk, { scope: 'openid', login_hint: 'ana' })
  const asked = { login_hint: 'ana', auth_req_id: response.auth_req_id, status: 'approved' }
  assert.equal((await stage.post('/backchannel/complete', asked, credentials.phoneService)).status, 200)
  return collect(kiosk, response)
}

function hinted(stage: Stage, idToken: string) {
  return stage.ring('kiosk', { login_hint: '', id_token_hint: idToken })
}

function logOut(stage: Stage, idToken: string) {
  return stage.get(`/oauth/logout?id_token_hint=${idToken}`)
}

function allNodesHave(stage: Stage, nodes: Node[], holds: (keys: JSONWebKeySet['keys']) => boolean): Promise<void> {
  return untilNoticed(stage, async () => {
    const sets = await Promise.all(nodes.map((node) => node.get('/oauth/jwks')))
    return sets.every(({ body }) => holds((body as unknown as JSONWebKeySet).keys))
  })
}

function allNodesPublish(stage: Stage, nodes: Node[], keys: number): Promise<void> {
  return allNodesHave(stage, nodes, ({ length }) => length === keys)
}

function problems(stage: Stage): string[] {
  return stage.logLines.filter((line) => /"level":(40|50|60)/.test(line) && !line.includes('no_channel'))
}
