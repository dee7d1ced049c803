/**
 * The signatures of a client's certificate chain are verified once for each connection, or once for each header of a
 * proxy. The validity period is compared with the time at each call.
 */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { describe, type TestContext, test } from 'node:test'
import { createHeaderMemory } from '../../src/client/certificate/remembered-chains.ts'
import { pollClient } from '../support/assertions.ts'
import { type CertificateOptions, type Certified, certify } from '../support/certificates.ts'
import { CIBA, openStage } from '../support/stage.ts'
import { openTlsStage } from '../support/tls-stage.ts'
import { registeredSubject, subject } from './client-chains.ts'

const day = 24 * 3600_000
const till = pollClient('till-tls', {
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_subject_dn: registeredSubject,
})
/** A poll for a request that does not exist. Only an authenticated client gets status 400. */
const poll = { grant_type: CIBA, auth_req_id: 'unknown', client_id: 'till-tls' }
const accepted = 400
const refused = 401

/** Counts the verifications of signatures in this process, in which the server runs. */
function countVerifications(t: TestContext): () => number {
  const verify = t.mock.method(X509Certificate.prototype, 'verify')
  return () => {
    const count = verify.mock.callCount()
    verify.mock.resetCalls()
    return count
  }
}

/**
 * Returns a client certificate, and the certificate of the authority that issued it. That authority is below the
 * trusted authority `by`.
 */
async function chainBelow(by: Certified, ofClient: Partial<CertificateOptions> = {}, ofAuthority = {}) {
  const below = await certify({ subject: 'CN=Below', isAuthority: true, by, ...ofAuthority })
  return { certified: await certify({ subject, by: below, ...ofClient }), below }
}

describe('over one TLS connection', () => {
  /** Opens a client that sends its own certificate and that of the authority below the trusted one. */
  async function open(t: TestContext, ofClient: Partial<CertificateOptions> = {}, ofAuthority = {}) {
    const stage = await openTlsStage(t, { config: { clients: [till] } })
    const { certified, below } = await chainBelow(stage.authority, ofClient, ofAuthority)
    const caller = stage.as({ ...certified, cert: certified.cert + below.cert }, 1)
    let connections = 0
    caller.agent.on('connect', () => connections++)
    const call = async () => {
      const { status } = await caller.post('/oauth/token', poll)
      assert.equal(connections, 1)
      return status
    }
    return { stage, call, verified: countVerifications(t) }
  }

  test('six calls: each signature of the chain is verified once', async (t) => {
    const { call, verified } = await open(t)
    for (let number = 1; number <= 6; number++) assert.equal(await call(), accepted)
    assert.equal(verified(), 2)
  })

  test('six calls with a chain that leads to no trusted authority: verified once too', async (t) => {
    const { call, verified } = await open(t, {}, { by: await certify({ subject: 'CN=Other', isAuthority: true }) })
    assert.equal(await call(), refused)
    assert.ok(verified() > 0)
    for (let number = 2; number <= 6; number++) assert.equal(await call(), refused)
    assert.equal(verified(), 0)
  })

  for (const [name, days, ofClient, ofAuthority] of [
    ['the certificate of the client', 2, { until: 2 }, {}],
    ['the certificate of the authority below', 2, { until: 900 }, { until: 2 }],
    ['the trusted authority itself', 365, { until: 900 }, { until: 900 }],
  ] as const) {
    test(`${name} expires: the next call is refused`, async (t) => {
      const { stage, call } = await open(t, ofClient, ofAuthority)
      assert.equal(await call(), accepted)
      stage.clock.advance(day)
      assert.equal(await call(), accepted)
      stage.clock.advance(days * day)
      assert.equal(await call(), refused)
      assert.equal(await call(), refused)
    })
  }

  test('an authority that begins to be valid is accepted from then on', async (t) => {
    const { stage, call } = await open(t, {}, { from: 1 })
    assert.equal(await call(), refused)
    stage.clock.advance(2 * day)
    assert.equal(await call(), accepted)
    stage.clock.setBack(2 * day)
    assert.equal(await call(), refused)
  })
})

describe('in the header of a proxy', () => {
  async function open(t: TestContext) {
    const authority = await certify({ subject: 'CN=Authority', isAuthority: true })
    const proxy = (clientCa: string) => ({
      trust: ['127.0.0.0/8', '::1'],
      clientCertificateHeader: 'x-client-cert',
      clientCertificateChainHeader: 'x-client-cert-chain',
      clientCa,
    })
    const stage = await openStage(t, { config: { proxy: proxy(authority.cert), clients: [till] } })
    const call = async (certified: Certified, ...chain: Certified[]) => {
      const headers = {
        'x-client-cert': `:${certified.x5c}:`,
        ...(chain.length > 0 && { 'x-client-cert-chain': chain.map(({ x5c }) => `:${x5c}:`).join(', ') }),
      }
      const response = await fetch(`${stage.url}/oauth/token`, {
        method: 'POST',
        headers,
        body: new URLSearchParams(poll),
      })
      return response.status
    }
    const trust = ({ cert }: Certified) => stage.restart({ proxy: proxy(cert) })
    return { stage, authority, call, trust, verified: countVerifications(t) }
  }

  test('six calls: each signature of the chain is verified once', async (t) => {
    const { authority, call, verified } = await open(t)
    const { certified, below } = await chainBelow(authority)
    for (let number = 1; number <= 6; number++) assert.equal(await call(certified, below), accepted)
    assert.equal(verified(), 2)
  })

  test('the same certificate without its chain is refused, whatever was sent before', async (t) => {
    const { authority, call } = await open(t)
    const { certified, below } = await chainBelow(authority)
    assert.equal(await call(certified), refused)
    assert.equal(await call(certified, below), accepted)
    assert.equal(await call(certified), refused)
    assert.equal(await call(certified, below), accepted)
  })

  for (const [name, ofClient, ofAuthority] of [
    ['the certificate of the client', { until: 2 }, {}],
    ['the certificate of the authority below', {}, { until: 2 }],
  ] as const) {
    test(`${name} expires: the next call is refused`, async (t) => {
      const { stage, authority, call } = await open(t)
      const { certified, below } = await chainBelow(authority, ofClient, ofAuthority)
      assert.equal(await call(certified, below), accepted)
      stage.clock.advance(day)
      assert.equal(await call(certified, below), accepted)
      stage.clock.advance(2 * day)
      assert.equal(await call(certified, below), refused)
    })
  }

  test('the configuration trusts another authority: the certificate is refused', async (t) => {
    const { authority, call, trust } = await open(t)
    const { certified, below } = await chainBelow(authority)
    assert.equal(await call(certified, below), accepted)
    await trust(await certify({ subject: 'CN=Authority', isAuthority: true }))
    assert.equal(await call(certified, below), refused)
  })

  test('certificates of untrusted authorities displace no remembered certificates', async (t) => {
    const { authority, call, verified } = await open(t)
    const { certified, below } = await chainBelow(authority)
    const stranger = await certify({ subject })
    assert.equal(await call(certified, below), accepted)
    verified()
    for (let number = 1; number <= 3; number++) assert.equal(await call(stranger), refused)
    verified()
    assert.equal(await call(certified, below), accepted)
    assert.equal(verified(), 0)
  })
})

test('the number of remembered headers is limited: the most recently used are kept', async () => {
  const memory = createHeaderMemory(2)
  const { cert } = await certify({ subject })
  const presented = { certificate: new X509Certificate(cert), others: [] }
  for (const header of ['one', 'two']) memory.keep(header, presented)
  memory.find('one')
  memory.keep('three', presented)
  assert.deepEqual(
    ['one', 'two', 'three'].map((header) => memory.find(header) !== undefined),
    [true, false, true],
  )
})
