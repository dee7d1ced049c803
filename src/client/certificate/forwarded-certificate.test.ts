/** Headers that real programs have sent. They were recorded, and not written for this test. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { thumbprintOf } from './client-certificate.ts'
import { readForwarded } from './forwarded-certificate.ts'

interface Recorded {
  program: string
  /** How the program was configured. */
  configured: string
  header: string
  chainHeader?: string
}

const recordings = new URL('./forwarded-certificate.recorded.json', import.meta.url)
const { thumbprint, intermediate, recorded } = JSON.parse(readFileSync(recordings, 'utf8')) as {
  /** SHA-256 of the client's certificate, which is the same in all recordings. */
  thumbprint: string
  intermediate: string
  recorded: Recorded[]
}

describe('the header of a program that terminates TLS is read', () => {
  for (const { program, configured, header, chainHeader } of recorded) {
    test(`${program}: ${configured}`, () => {
      const { certificate, others } = readForwarded(header, chainHeader)
      assert.equal(thumbprintOf(certificate.raw), thumbprint)
      const further = others.map(({ raw }) => thumbprintOf(raw)).filter((each) => each !== thumbprint)
      assert.deepEqual(further, chainHeader === undefined ? [] : [intermediate])
    })
  }
})

test('a header that is longer than a chain can be is not read', () => {
  const { header } = recorded[0]!
  assert.throws(() => readForwarded(`${header}${' '.repeat(17_000)}`), /too long/)
})
