/** Client certificates where TLS ends before this server: at a proxy, or in the application it is mounted in. */
import assert from 'node:assert/strict'
import { constants } from 'node:crypto'
import { createServer, request as httpsRequest } from 'node:https'
import { before, describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { pollClient } from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { basic, CIBA, openStage } from '../support/stage.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { cert, form, jwkOf } from './certified-clients.ts'

let self: Certified

before(async () => {
  self = await certify({ subject: 'CN=self' })
})

describe('behind a proxy that ends TLS', () => {
  const behind = async (t: TestContext, trust: string[]) => {
    const authority = await certify({ subject: 'CN=Authority', isAuthority: true })
    const shown = await certify({ subject: 'CN=till', by: authority })
    const ours = await openStage(t, {
      config: {
        proxy: { trust, clientCertificateHeader: 'X-Client-Cert', clientCa: authority.cert },
        clients: [
          pollClient('till-tls', {
            token_endpoint_auth_method: 'tls_client_auth',
            tls_client_auth_subject_dn: 'CN=till',
          }),
          pollClient('selfish', {
            token_endpoint_auth_method: 'self_signed_tls_client_auth',
            jwks: { keys: [await jwkOf(self)] },
          } as Partial<ClientMetadataInput>),
        ],
      },
    })
    const through = (header: string, id = 'till-tls') =>
      fetch(`${ours.url}/backchannel/authorize`, {
        method: 'POST',
        headers: { 'x-client-cert': header, 'content-type': 'application/x-www-form-urlencoded' },
        body: String(new URLSearchParams(form(id))),
      })
    return { ours, authority, shown, through }
  }
  const loopback = ['127.0.0.0/8', '::1']

  test('its header is read in each of the three usual formats', async (t) => {
    const { shown, through } = await behind(t, loopback)
    for (const header of [
      encodeURIComponent(shown.cert),
      shown.x5c,
      `:${shown.x5c}:`,
      shown.cert.replaceAll('\n', ' '),
    ]) {
      assert.equal((await through(header)).status, 200, header.slice(0, 40))
    }
    assert.equal((await through(self.x5c, 'selfish')).status, 200)
  })

  test('an unknown or expired certificate is refused there too', async (t) => {
    const { authority, through, ours } = await behind(t, loopback)
    const old = await certify({ subject: 'CN=till', by: authority, from: -9, until: -1 })
    const strange = await certify({
      subject: 'CN=till',
      by: await certify({ subject: 'CN=Authority', isAuthority: true }),
    })
    for (const { x5c } of [old, strange, await certify({ subject: 'CN=till' }), self]) {
      assert.equal((await through(x5c)).status, 401)
    }
    for (const header of ['x', '%', '::', encodeURIComponent('<script>'), 'A'.repeat(9000)]) {
      assert.equal((await through(header)).status, 401)
    }
    ours.clock.advance(366 * 24 * 3600_000)
    assert.equal(
      (await through((await certify({ subject: 'CN=till', by: authority })).x5c)).status,
      401,
      'a year later',
    )
  })

  test("the certificate of the proxy's own connection is ignored: a client without a certificate has none (ML-10)", async (t) => {
    const ours = await openTlsStage(t, {
      config: {
        proxy: { trust: loopback, clientCertificateHeader: 'X-Client-Cert' },
        clients: [pollClient('till-bound', { client_secret: 'hush-hush', ...cert })],
      },
    })
    const proxy = ours.as(await certify({ subject: 'CN=proxy', by: ours.authority }))
    const authorization = basic('till-bound', 'hush-hush')
    const form = { grant_type: CIBA, auth_req_id: 'unknown' }
    const without = await proxy.post('/oauth/token', form, { authorization })
    assert.equal(without.body.error, 'invalid_request', without.text)
    const shown = await proxy.post('/oauth/token', form, { authorization, 'x-client-cert': self.x5c })
    assert.equal(shown.body.error, 'invalid_grant', shown.text)
  })

  test('from any other caller the header is ignored, and logged without its content (BP-3)', async (t) => {
    const { ours, shown, through } = await behind(t, ['192.0.2.1'])
    assert.equal((await through(shown.x5c)).status, 401)
    const spoofed = ours.logLines.filter((line) => line.includes('client_certificate.spoofed'))
    assert.equal(spoofed.length, 1)
    assert.ok(!spoofed[0]!.includes(shown.x5c.slice(0, 30)))
  })

  test('a certificate with any change is not accepted', async (t) => {
    const { shown, through } = await behind(t, loopback)
    const der = Buffer.from(shown.x5c, 'base64')
    await fc.assert(
      fc.asyncProperty(
        fc.nat(der.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (at, bits, selfish) => {
          const changed = Buffer.from(selfish ? Buffer.from(self.x5c, 'base64') : der)
          changed[at % changed.length]! ^= bits
          assert.equal((await through(changed.toString('base64'), selfish ? 'selfish' : 'till-tls')).status, 401)
        },
      ),
      { numRuns: Number(process.env.DOORBELL_TEST_RUNS ?? 400) },
    )
    assert.equal(
      (await through(Buffer.concat([der, Buffer.from([0])]).toString('base64'))).status,
      401,
      'with one more byte',
    )
  })
})

test("mounted in an application that terminates TLS, it uses the application's client certificates", async (t) => {
  const ours = await openStage(t, {
    config: {
      tls: { key: self.key, cert: self.cert },
      clients: [
        pollClient('selfish', {
          token_endpoint_auth_method: 'self_signed_tls_client_auth',
          jwks: { keys: [await jwkOf(self)] },
        } as Partial<ClientMetadataInput>),
      ],
    },
  })
  const { key, cert } = await certify({ subject: 'CN=host' })
  const options = { key, cert, requestCert: true, rejectUnauthorized: false }
  const host = createServer({ ...options, secureOptions: constants.SSL_OP_NO_RENEGOTIATION }, ours.doorbell.handler)
  await new Promise<void>((resolve) => host.listen(0, '127.0.0.1', resolve))
  t.after(() => host.close())
  const { port } = host.address() as { port: number }
  const status = await new Promise((resolve, reject) => {
    const call = httpsRequest(
      {
        port,
        host: '127.0.0.1',
        path: '/backchannel/authorize',
        method: 'POST',
        key: self.key,
        cert: self.cert,
        rejectUnauthorized: false,
        agent: false,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      },
      (answer) => resolve(answer.resume().statusCode),
    )
    call.on('error', reject)
    call.end(String(new URLSearchParams(form('selfish'))))
  })
  assert.equal(status, 200)
})
