import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { systemClock } from '../../platform/clock.ts'
import { createLog } from '../../platform/log.ts'
import { type CertificateCall, createReadCertificate } from './client-certificate.ts'

/** Returns a call over a socket that is not TLS. Counts how often Node has to parse the header lines again. */
function callWith(headers: CertificateCall['headers'], remoteAddress = '192.0.2.7') {
  let parsed = 0
  const call: CertificateCall = {
    socket: { remoteAddress },
    headers,
    get headersDistinct() {
      parsed++
      return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value].flat() as string[]]))
    },
  }
  return { call, parsed: () => parsed }
}

function reader(header: string | undefined) {
  return createReadCertificate({
    header,
    chainHeader: undefined,
    trustedProxies: ['192.0.2.0/24'],
    authorities: undefined,
    clock: systemClock,
    log: createLog('silent'),
  })
}

describe('the header lines of a call are parsed again', () => {
  const others = { host: 'id.example', authorization: 'Basic xyz', 'content-type': 'application/x-www-form-urlencoded' }

  for (const [what, header, headers] of [
    ['never, if no header for certificates is configured', undefined, others],
    ['never, if the call has no such header', 'x-client-cert', others],
    ['never, if another header looks like one', undefined, { ...others, 'x-client-cert': 'abc' }],
    ['never, for RFC 9440, if the proxy forwards no certificate', 'Client-Cert', others],
    ['never, for Envoy, if the proxy forwards no certificate', 'x-forwarded-client-cert', others],
  ] as const) {
    test(what, () => {
      const { call, parsed } = callWith(headers)
      assert.equal(reader(header)(call), undefined)
      assert.equal(parsed(), 0)
    })
  }

  test('once, if the proxy says that the client has sent no certificate', () => {
    const { call, parsed } = callWith({ ...others, 'x-client-cert': '(null)' })
    assert.equal(reader('x-client-cert')(call), undefined)
    assert.equal(parsed(), 1)
  })
})
