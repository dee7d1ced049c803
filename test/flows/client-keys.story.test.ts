/**
 * The keys of clients as clients really publish them: several keys without `kid`, and new keys with the former `kid`.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import * as openid from 'openid-client'
import type { PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import { asserted, assertionOf, type KeyHolder, newKey, pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { discover } from '../support/foreign-client.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { basic, credentials, openStage } from '../support/stage.ts'
import { openForSuite } from '../support/teardown.ts'
import {
  assertBelievedEverywhere,
  assertRefusedEverywhere,
  everywhere,
  hintToken,
  openKeyServer,
  secret,
  signing,
  signs,
  unlimited,
} from './keyed-clients.ts'

type Published = Awaited<ReturnType<typeof publishedWith>>

/** Returns a key that is published with these members and those of its material, and with no others. */
async function publishedWith(alg: string, members: Record<string, unknown> = {}) {
  const { privateKey, publicJwk } = await newKey('none', alg)
  const { kid, alg: _, ...material } = publicJwk
  return { alg, privateKey, publicJwk: { ...material, ...members } as PublicJwk }
}

const keys = (alg: string, ...members: Record<string, unknown>[]) =>
  Promise.all(members.map((each) => publishedWith(alg, each)))
const jwksOf = (holders: Published[]) => ({ keys: holders.map(({ publicJwk }) => publicJwk) })

/** Keys of clients, and the header of their signatures. */
const sets: [name: string, holders: Published[], header?: Record<string, string>][] = [
  ['two keys without kid', await keys('ES256', {}, {})],
  ['three RSA keys without kid', await keys('PS256', {}, {}, {})],
  ['keys without kid, one with alg', await keys('ES256', { alg: 'ES256' }, {})],
  ['keys without kid, one with use', await keys('RS256', {}, { use: 'sig' })],
  ['Ed25519 keys without kid', await keys('Ed25519', {}, {})],
  ['two keys with one kid', await keys('ES256', { kid: 'same' }, { kid: 'same' }), { kid: 'same' }],
  ['keys with and without kid', await keys('ES256', { kid: 'one' }, {})],
]
const foreign = new Map(
  await Promise.all(
    [...new Set(sets.map(([, [holder]]) => holder!.alg))].map(
      async (alg) => [alg, (await publishedWith(alg)).privateKey] as const,
    ),
  ),
)

for (const engine of engines) {
  describe(`of several keys that match the header of a signature, all are tried, on ${engine.name}`, () => {
    const it = openForSuite((t) => openWithSets(t, engine))

    for (const [index, [name, holders, header]] of sets.entries()) {
      test(`${name}: at every endpoint`, async () => {
        for (const client of [`inline-${index}`, `fetched-${index}`]) {
          for (const { alg, privateKey } of holders) {
            await assertBelievedEverywhere(it(), client, { key: privateKey, header: { alg, ...header } })
          }
          const [{ alg }] = holders as [Published]
          await assertRefusedEverywhere(it(), client, { key: foreign.get(alg)!, header: { alg, ...header } })
        }
      })
    }

    test('also next to keys that cannot be used: too short, for encryption, of another kind', async (t) => {
      const [key] = await keys('RS256', {})
      const short = { kty: 'RSA', n: Buffer.alloc(128, 0xc5).toString('base64url'), e: 'AQAB' }
      const served = await openKeyServer(t)
      const unusable = [
        short,
        { ...key!.publicJwk, use: 'enc' },
        { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA' },
        { kty: 'EC', crv: 'P-256', x: 'AA' },
        { ...key!.publicJwk, kid: 7 },
        { ...key!.publicJwk, n: undefined },
        { kty: 'oct', k: 'AAAA' },
        {},
        null,
      ]
      served.publish({ keys: [...unusable, key!.publicJwk] })
      const stage = await openStage(t, {
        engine,
        config: { clients: [pollClient('fetched', { ...signs, jwks_uri: served.url })] },
      })
      await assertBelievedEverywhere(stage, 'fetched', { key: key!.privateKey, header: { alg: 'RS256' } })
    })

    test('for the assertions of openid-client, which has been given keys without kid', async (t) => {
      const [one, two] = await keys('ES256', {}, {})
      const jwks = jwksOf([one!, two!])
      const stage = await openStage(t, { engine, config: { clients: [pollClient('inline', { ...signs, jwks })] } })
      stage.clock.advance(Date.now() - stage.clock.now())
      for (const { privateKey } of [one!, two!]) {
        const client = await discover(stage, 'inline', openid.PrivateKeyJwt(privateKey))
        const { auth_req_id } = await openid.initiateBackchannelAuthentication(client, {
          scope: 'openid',
          login_hint: 'ana@example.com',
        })
        assert.ok(auth_req_id)
        assert.deepEqual(await openid.tokenIntrospection(client, 'unknown'), { active: false })
      }
    })

    test('for signed requests and login_hint_tokens', async (t) => {
      const [one, two] = await keys('ES256', {}, {})
      const other = await publishedWith('ES256')
      const jwks = jwksOf([one!, two!])
      const issuer = 'https://finder.example'
      const stage = await openStage(t, {
        engine,
        config: { clients: [signing({ jwks })], hints: { tokenIssuers: [{ issuer, jwks }] } },
      })
      const requestOf = async ({ privateKey }: KeyHolder) => {
        const request = await signedRequest(stage, 'signing', { key: privateKey })
        return (await stage.post('/backchannel/authorize', { request }, basic('signing', secret))).status
      }
      const hintOf = async (holder: KeyHolder) => {
        const login_hint_token = await hintToken(stage, issuer, holder)
        const form = { scope: 'openid', login_hint_token }
        return (await stage.post('/backchannel/authorize', form, credentials.kiosk)).status
      }
      for (const ask of [requestOf, hintOf]) {
        assert.deepEqual([await ask(one!), await ask(two!), await ask(other)], [200, 200, 400])
      }
    })

    test('a key that was replaced without a new kid: the set is fetched again, but not at each call', async (t) => {
      const [old, next] = await keys('ES256', {}, {})
      const served = await openKeyServer(t)
      served.publish({ keys: [old!.publicJwk] })
      const stage = await openStage(t, {
        engine,
        config: { clients: [pollClient('fetched', { ...signs, jwks_uri: served.url })] },
      })
      const [first] = everywhere
      const ask = async ({ privateKey }: KeyHolder) =>
        (
          await stage.post(first.path, {
            ...first.form,
            ...asserted(await assertionOf(stage, 'fetched', { key: privateKey })),
          })
        ).status
      assert.equal(await ask(old!), 200)
      served.publish({ keys: [next!.publicJwk] })
      assert.deepEqual([await ask(next!), served.asked()], [401, 1])
      stage.clock.advance(30_001)
      await assertBelievedEverywhere(stage, 'fetched', { key: next!.privateKey })
      assert.deepEqual([await ask(old!), await ask(old!), served.asked()], [401, 401, 2])
    })
  })
}

/** Opens a server with two clients for each set of keys. One client has registered the set, the other publishes it. */
async function openWithSets(t: TestContext, engine: Engine) {
  const clients = await Promise.all(
    sets.map(async ([, holders], index) => {
      const jwks = jwksOf(holders)
      const served = await openKeyServer(t)
      served.publish(jwks)
      return [
        pollClient(`inline-${index}`, { ...signs, jwks }),
        pollClient(`fetched-${index}`, { ...signs, jwks_uri: served.url }),
      ]
    }),
  )
  return openStage(t, { engine, config: { clients: clients.flat(), limits: unlimited } })
}
