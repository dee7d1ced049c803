import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { certify } from '../../../test/support/certificates.ts'
import { isDistinguishedName, subjectMatches } from './subject-name.ts'

let certificate: X509Certificate

before(async () => {
  const { cert } = await certify({
    subject: 'C=DE, O=Acme\\, Inc., OU=Tills+CN=till  One, E=Till@acme.example',
    names: [
      { type: 'dns', value: 'till.acme.example' },
      { type: 'dns', value: '*.wild.example' },
      { type: 'url', value: 'https://till.acme.example/a, b' },
      { type: 'url', value: 'urn:till:one' },
      { type: 'ip', value: '192.0.2.7' },
      { type: 'ip', value: '2001:db8::7' },
      { type: 'email', value: 'till@acme.example' },
    ],
  })
  certificate = new X509Certificate(cert)
})

describe('tls_client_auth_subject_dn is compared by meaning (RFC 8705 §2.1.2)', () => {
  const same = [
    'emailAddress=till@acme.example,OU=Tills+CN=till One,O=Acme\\, Inc.,C=DE',
    '1.2.840.113549.1.9.1=till@acme.example, CN=TILL one+OU=tills , o=acme\\2C inc., c=de',
    'EMAILADDRESS=till@acme.example,OU=Tills+CN="till One",O="Acme, Inc.",C=DE',
  ]
  for (const name of same) {
    test(`the same: ${name}`, () => {
      assert.equal(subjectMatches(certificate, 'tls_client_auth_subject_dn', name), true)
    })
  }

  const others = [
    'C=DE,O=Acme\\, Inc.,OU=Tills+CN=till One,emailAddress=till@acme.example',
    'emailAddress=till@acme.example,OU=Tills+CN=till Two,O=Acme\\, Inc.,C=DE',
    'emailAddress=till@acme.example,OU=Tills,CN=till One,O=Acme\\, Inc.,C=DE',
    'OU=Tills+CN=till One,O=Acme\\, Inc.,C=DE',
    'CN=till One',
    'emailAddress=till@acme.example,OU=Tills+CN=till One,O=Acme\\, Inc.,C=DE,C=DE',
  ]
  for (const name of others) {
    test(`different: ${name}`, () => {
      assert.equal(subjectMatches(certificate, 'tls_client_auth_subject_dn', name), false)
    })
  }

  test('what is not a distinguished name is rejected and matches nothing', () => {
    for (const text of ['', 'till', 'CN', '=x', 'CN=a,', 'CN=#0c0161', ',CN=a', 'x CN=a', '!CN=a', 'CN=a,x,O=b']) {
      assert.equal(isDistinguishedName(text), false, text)
      assert.equal(subjectMatches(certificate, 'tls_client_auth_subject_dn', text), false, text)
    }
  })

  test('escapes and quotes cannot make one name look like another', async () => {
    const { cert } = await certify({ subject: 'CN=admin, O=Acme2C Inc.' })
    const admin = new X509Certificate(cert)
    assert.equal(subjectMatches(admin, 'tls_client_auth_subject_dn', 'O=Acme2C Inc.,CN=admin'), true)
    for (const name of ['O=Acme\\2C Inc.,CN=admin', 'O=Acme2C Inc.,CN=not"admin"', 'O=Acme2C Inc.\\\\,CN=admin']) {
      assert.equal(subjectMatches(admin, 'tls_client_auth_subject_dn', name), false, name)
    }
  })

  test('a name without subject parts does not match a certificate without subject', async () => {
    const { cert } = await certify({ subject: '' })
    assert.equal(subjectMatches(new X509Certificate(cert), 'tls_client_auth_subject_dn', ''), false)
  })
})

describe('alternative names', () => {
  const cases = [
    ['tls_client_auth_san_dns', ['till.acme.example', 'TILL.acme.example'], ['acme.example', 'a.wild.example', '']],
    ['tls_client_auth_san_uri', ['urn:till:one', 'https://till.acme.example/a, b'], ['urn:till:ONE', 'b', 'urn:till']],
    ['tls_client_auth_san_ip', ['192.0.2.7', '2001:db8::7', '2001:DB8:0:0:0:0:0:7'], ['192.0.2.8', 'till', '']],
    ['tls_client_auth_san_email', ['till@acme.example'], ['Till2@acme.example', 'acme.example', '']],
  ] as const
  for (const [name, right, wrong] of cases) {
    test(name, () => {
      for (const value of right) assert.equal(subjectMatches(certificate, name, value), true, value)
      for (const value of wrong) assert.equal(subjectMatches(certificate, name, value), false, value)
    })
  }

  test('the subject is not used as an alternative name', async () => {
    const { cert } = await certify({ subject: 'CN=till.acme.example, E=till@acme.example' })
    const other = new X509Certificate(cert)
    assert.equal(subjectMatches(other, 'tls_client_auth_san_dns', 'till.acme.example'), false)
    assert.equal(subjectMatches(other, 'tls_client_auth_san_email', 'till@acme.example'), false)
  })
})
