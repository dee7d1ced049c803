/**
 * The authorities of client certificates, tested with `openssl s_client`. The server names no authorities in the
 * handshake, but it verifies the chains.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { pollClient } from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { type OpensslCall, type OpensslClient, openOpensslClient } from '../support/openssl-client.ts'
import { openTlsStage, type TlsStage } from '../support/tls-stage.ts'
import { form, jwkOf } from './certified-clients.ts'
import { type Chain, chainsOf, registeredSubject } from './client-chains.ts'

let stage: TlsStage
let openssl: OpensslClient
let chains: Record<string, Chain>
let own: Certified
let ofOther: Certified
const closings: (() => unknown)[] = []
const context = { after: (fn: () => unknown) => closings.unshift(fn) } as never

before(async () => {
  own = await certify({ subject: 'CN=self' })
  const other = await certify({ subject: 'CN=Other authority', isAuthority: true })
  ofOther = await certify({ subject: 'CN=client', by: other })
  const selfSigned = { token_endpoint_auth_method: 'self_signed_tls_client_auth' }
  stage = await openTlsStage(context, {
    config: {
      clients: [
        pollClient('till-tls', {
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_subject_dn: registeredSubject,
        }),
        pollClient('own', { ...selfSigned, jwks: { keys: [await jwkOf(own)] } } as Partial<ClientMetadataInput>),
        pollClient('other', { ...selfSigned, jwks: { keys: [await jwkOf(ofOther)] } } as Partial<ClientMetadataInput>),
      ],
    },
  })
  openssl = await openOpensslClient(context, stage.url)
  chains = await chainsOf(stage.authority)
})
after(async () => {
  for (const close of closings) await close()
})

const send = (clientId: string, call: OpensslCall) => openssl.post('/backchannel/authorize', form(clientId), call)

for (const version of ['tls1_2', 'tls1_3'] as const) {
  /**
   * Sends one request over a connection with this certificate, and one over a resumed TLS session. A resumed session
   * has only the client's own certificate.
   */
  async function sendTwice(clientId: string, shown: Pick<OpensslCall, 'certified' | 'chain'>, name: string) {
    const session = openssl.newFile()
    const first = await send(clientId, { version, ...shown, sessionTo: session })
    const resumed = await send(clientId, { version, sessionFrom: session })
    assert.deepEqual([first.isResumed, resumed.isResumed], [false, true], name)
    return [first.status, resumed.status]
  }

  describe(`over ${version}`, () => {
    test('the server does not say which authorities it trusts (RFC 8705 §6.1)', async () => {
      const { printed } = await send('own', { version, certified: own })
      assert.match(printed, /^No client certificate CA names sent$/m)
      assert.doesNotMatch(printed, /^Acceptable client certificate CA names$/m)
      assert.match(printed, /^Requested Signature Algorithms: /m, 'a certificate is requested')
    })

    test('a registered certificate is accepted, whoever issued it, also on a resumed session', async () => {
      assert.deepEqual(await sendTwice('own', { certified: own }, 'self-signed'), [200, 200])
      assert.deepEqual(await sendTwice('other', { certified: ofOther }, 'of another authority'), [200, 200])
    })

    test('tls_client_auth accepts what tls.clientCa has issued, and nothing else, also on a resumed session', async () => {
      for (const [name, { certified, chain, isTrusted }] of Object.entries(chains)) {
        const status = isTrusted ? 200 : 401
        assert.deepEqual(await sendTwice('till-tls', { certified, chain }, name), [status, status], name)
      }
    })
  })
}

test('a certificate that has expired is refused on a session from before', async () => {
  const { certified } = chains['of the trusted authority']!
  const session = openssl.newFile()
  assert.equal((await send('till-tls', { version: 'tls1_3', certified, sessionTo: session })).status, 200)
  stage.clock.advance(366 * 24 * 3600_000)
  const { status, isResumed } = await send('till-tls', { version: 'tls1_3', sessionFrom: session })
  assert.deepEqual([status, isResumed], [401, true])
})
