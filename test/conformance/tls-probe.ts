/** The suite's tests of an endpoint's TLS (fapi-ciba.md §8). */
import assert from 'node:assert/strict'
import { mtlsAddress, type Suite } from './suite.ts'

const fapiSuites = ['ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384']
/** The suite warns of these, although FAPI allows them. */
const warnedOf = ['DHE-RSA-AES128-GCM-SHA256', 'DHE-RSA-AES256-GCM-SHA384']
const otherSuites = ['ECDHE-RSA-AES128-SHA256', 'ECDHE-RSA-AES256-SHA384', 'AES128-GCM-SHA256', 'AES256-SHA']
const refused = /^refused: (ECONNRESET|.*(HANDSHAKE_FAILURE|PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL))/

export async function assertTlsOf({ stage, metadata }: Suite, endpoint: string): Promise<void> {
  const { hostname: host, port } = new URL(mtlsAddress(metadata, endpoint))
  const handshake = (options: object) => stage.handshake({ host, port: Number(port), ...options })

  assert.match(await handshake({}), /^TLSv1.3 /, 'TL-5')
  for (const ciphers of fapiSuites) {
    assert.match(await handshake({ maxVersion: 'TLSv1.2', ciphers }), /^TLSv1.2 /, 'TL-3')
  }
  for (const ciphers of [...warnedOf, ...otherSuites]) {
    assert.match(await handshake({ maxVersion: 'TLSv1.2', ciphers }), refused, `TL-6: ${ciphers}`)
  }
  for (const version of ['TLSv1', 'TLSv1.1']) {
    const options = { minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0' }
    assert.match(await handshake(options), refused, `TL-4: ${version}`)
  }
}
