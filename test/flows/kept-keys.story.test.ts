/**
 * Fetches of other clients' key sets hang, until the limit of fetches for a network or for a receiver is reached.
 * Clients whose keys are known are not affected.
 */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { asserted, assertionOf, cibaEndpoints, isBelieved, newKey, pollClient } from '../support/assertions.ts'
import { certify } from '../support/certificates.ts'
import { type DocumentServer, gather, openDocumentServer } from '../support/document-server.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signedRequest } from '../support/signed-requests.ts'
import { type Answer, basic } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { until } from '../support/until.ts'
import { jwkOf } from './certified-clients.ts'
import { foreign, key, scene, secret, underWay } from './hanging-fetches.ts'
import { everywhere, signs, unlimited } from './keyed-clients.ts'

const own = '203.0.113.9'

/** The ways in which other clients' fetches reach a limit that also applies to the fetch of the known client's keys. */
const takings = [
  {
    name: 'callers in the network of the client',
    addressOf: (n: number) => `203.0.113.${20 + n}`,
    keysOf: (server: DocumentServer) => server.byAddress,
  },
  {
    name: 'keys at the domain of the client',
    addressOf: (n: number) => `198.51.${n}.7`,
    keysOf: (server: DocumentServer) => server.byName,
  },
]
type Taking = (typeof takings)[number]

const occupants = Array.from({ length: underWay.eachNetwork }, (_, n) => `occupant-${n}`)

for (const engine of engines) {
  describe(`all places for fetches are taken by others, on ${engine.name}`, () => {
    for (const taking of takings) {
      test(`${taking.name}: known keys stay in use, also for signed requests, until they are too old`, async (t) => {
        const it = await taken(t, engine, taking)
        for (const minutes of [11, 48]) {
          await it.takePlacesAfter(minutes * 60_000)
          for (const answer of await it.answers(key)) assert.ok(isBelieved(answer), answer.text)
          assert.equal((await it.signedRequest()).status, 200)
          for (const { status } of await it.answers(foreign)) assert.equal(status, 401)
          assert.equal(it.known.asked(), 1, 'not fetched again: there is no place')
        }
        await it.takePlacesAfter(61_000)
        for (const { status, headers } of await it.answers(key)) {
          assert.deepEqual([status, headers.get('retry-after')], [503, '1'])
        }
        await it.freePlaces()
        for (const answer of await it.answers(key)) assert.ok(isBelieved(answer), answer.text)
        assert.equal(it.known.asked(), 2)
      })

      test(`${taking.name}: a key that is not known can be neither accepted nor refused`, async (t) => {
        const it = await taken(t, engine, taking)
        await it.takePlacesAfter(31_000)
        for (const { status } of await it.answers(await newKey('next'), 'next')) assert.equal(status, 503)
        assert.equal(it.known.asked(), 1)
      })

      test(`${taking.name}: the known certificate of a client stays in use`, async (t) => {
        const certified = await certify({ subject: 'CN=self' })
        const method = { ...signs, token_endpoint_auth_method: 'self_signed_tls_client_auth' } as const
        const it = await taken(t, engine, taking, { metadata: method, jwk: await jwkOf(certified) })
        const answersTo = async ({ x5c }: { x5c: string }) => {
          const found: Answer[] = []
          for (const { path, form } of everywhere) {
            found.push(await it.from(own, x5c)(path, { ...form, client_id: 'known' }))
          }
          return found
        }
        for (const answer of await answersTo(certified)) assert.ok(isBelieved(answer), answer.text)
        assert.equal(it.known.asked(), 1)
        await it.takePlacesAfter(31_000)
        for (const answer of await answersTo(certified)) assert.ok(isBelieved(answer), answer.text)
        for (const { status } of await answersTo(await certify({ subject: 'CN=self' }))) assert.equal(status, 401)
        assert.equal(it.known.asked(), 1)
      })
    }
  })
}

/** The known client: its metadata, and the key that it publishes. */
interface Known {
  metadata: Partial<ClientMetadataInput>
  jwk: object
}

/** Opens a server that knows the keys of a client, and eight other clients whose key sets hang. */
async function taken(
  t: TestContext,
  engine: Engine,
  { addressOf, keysOf }: Taking,
  { metadata, jwk }: Known = { metadata: signs, jwk: key.publicJwk },
) {
  const [known, hanging] = [await openDocumentServer(t), await openDocumentServer(t)]
  known.publish({ keys: [jwk] })
  const others = occupants.map((id, n) => pollClient(id, { ...signs, jwks_uri: `${keysOf(hanging)}/${n}` }))
  const signing = pollClient('known-signing', {
    client_secret: secret,
    jwks_uri: known.byName,
    backchannel_authentication_request_signing_alg: 'ES256',
  })
  const clients = [pollClient('known', { ...metadata, jwks_uri: known.byName }), signing, ...others]
  const it = await scene(t, { clients, limits: { inFlight: 100, ...unlimited } }, { engine })
  closeAfter(t, hanging.drop)

  async function answers(by: typeof key, kid = 'one'): Promise<Answer[]> {
    const found: Answer[] = []
    for (const { path, form } of everywhere) {
      const assertion = await assertionOf(it.stage, 'known', { key: by.privateKey, header: { kid } })
      found.push(await it.from(own)(path, { ...form, ...asserted(assertion) }))
    }
    return found
  }

  if (metadata === signs) for (const answer of await answers(key)) assert.ok(isBelieved(answer), answer.text)
  let calls: ReturnType<typeof gather<Answer>> | undefined

  async function freePlaces(): Promise<void> {
    hanging.drop()
    await calls?.all()
  }

  return {
    ...it,
    known,
    answers,
    freePlaces,
    async signedRequest(): Promise<Answer> {
      const request = await signedRequest(it.stage, 'known-signing', { key: key.privateKey })
      return it.from(own)('/backchannel/authorize', { request }, basic('known-signing', secret))
    },
    /** After this time, makes the server begin as many hanging fetches as it allows. */
    async takePlacesAfter(milliseconds: number): Promise<void> {
      await freePlaces()
      it.stage.clock.advance(milliseconds)
      const { path, form } = cibaEndpoints[1]
      const assertions = await Promise.all(
        occupants.map((id) => assertionOf(it.stage, id, { key: foreign.privateKey })),
      )
      calls = gather(assertions.map((each, n) => it.from(addressOf(n))(path, { ...form, ...asserted(each) })))
      await until(() => hanging.hanging() === underWay.eachReceiver)
    },
  }
}
