/** The headers in which proxies forward client certificates and their chains. */
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { pollClient } from '../support/assertions.ts'
import { type Certified, certify } from '../support/certificates.ts'
import { basic, CIBA, openStage } from '../support/stage.ts'
import { cert, form } from './certified-clients.ts'
import { chainsOf, registeredSubject, subject } from './client-chains.ts'

type Headers = Record<string, string | string[]>

const encoded = ({ cert }: Certified) => encodeURIComponent(cert)
const base64 = ({ x5c }: Certified) => x5c
const sequence = ({ x5c }: Certified) => `:${x5c}:`
const der = ({ x5c }: Certified) => Buffer.from(x5c, 'base64')
const hash = '468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688'
const own = 'x-client-cert'

/** The forms in which a certificate is forwarded with the rest of its chain. */
const forms: Record<string, (certified: Certified, chain: Certified[]) => Headers> = {
  'Envoy: Cert and Chain': (certified, chain) => ({
    [own]: `Hash=${hash};Cert="${encoded(certified)}";Chain="${[certified, ...chain].map(encoded).join('')}";Subject="CN=a\\"b;c,d";URI=;DNS=a.example;DNS=b.example`,
  }),
  'Envoy: Chain alone': (certified, chain) => ({
    [own]: `By=spiffe://a/b;Hash=${hash};Chain="${[certified, ...chain].map(encoded).join('')}"`,
  }),
  'one value in each line of a chain header, as RFC 9440 allows': (certified, chain) => ({
    [own]: sequence(certified),
    'x-client-cert-chain': chain.map(sequence),
  }),
  'a list in the chain header, as RFC 9440 usually has it': (certified, chain) => ({
    [own]: `${sequence(certified)};p=1`,
    'x-client-cert-chain': chain.map(sequence).join(', '),
  }),
  'base64 of the DER, separated by commas (Traefik)': (certified, chain) => ({
    [own]: [certified, ...chain].map(base64).join(','),
  }),
  'the same, percent-encoded (Traefik 2)': (certified, chain) => ({
    [own]: encodeURIComponent([certified, ...chain].map(base64).join(',')),
  }),
  'several PEM, percent-encoded except for "+", "=" and "/" (AWS)': (certified, chain) => ({
    [own]: encodeURIComponent([certified, ...chain].map(({ cert }) => cert).join('')).replaceAll(
      /%2B|%3D|%2F/g,
      (text) => decodeURIComponent(text),
    ),
  }),
  'several PEM, form-encoded': (certified, chain) => ({
    [own]: String(new URLSearchParams({ '': [certified, ...chain].map(({ cert }) => cert).join('') })).slice(1),
  }),
  'several PEM in one line, with spaces (Apache)': (certified, chain) => ({
    [own]: [certified, ...chain].map(({ cert }) => cert.replaceAll('\n', ' ')).join(''),
  }),
  'several PEM in one line, with "\\n"': (certified, chain) => ({
    [own]: [certified, ...chain].map(({ cert }) => cert.replaceAll('\n', '\\n')).join(''),
  }),
  'one DER after the other, in the chain header (HAProxy)': (certified, chain) => ({
    [own]: base64(certified),
    'x-client-cert-chain': Buffer.concat([certified, ...chain].map(der)).toString('base64'),
  }),
}

interface Proxied {
  header?: string
  chainHeader?: string
  /** The only trusted authority. Default: a new one. */
  authority?: Certified
}

async function openBehindProxy(t: TestContext, { header = own, chainHeader, ...rest }: Proxied = {}) {
  const authority = rest.authority ?? (await certify({ subject: 'CN=Authority', isAuthority: true, kind: 'rsa' }))
  const stage = await openStage(t, {
    config: {
      proxy: {
        trust: ['127.0.0.0/8', '::1'],
        clientCertificateHeader: header,
        ...(chainHeader !== undefined && { clientCertificateChainHeader: chainHeader }),
        clientCa: authority.cert,
      },
      clients: [
        pollClient('till-tls', {
          token_endpoint_auth_method: 'tls_client_auth',
          tls_client_auth_subject_dn: registeredSubject,
        }),
        pollClient('bound', { client_secret: 'hush-hush', ...cert }),
      ],
    },
  })
  const reasons = () =>
    stage.logLines
      .filter((line) => line.includes('client_certificate.unreadable'))
      .map((line) => String((JSON.parse(line) as { reason?: string }).reason))
  /** Unlike `fetch`, sends each value of a header in a separate line. */
  const post = (path: string, headers: Headers, body: Record<string, string>) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const call = httpRequest(
        stage.url + path,
        { method: 'POST', headers: { ...headers, 'content-type': 'application/x-www-form-urlencoded' } },
        (answer) => {
          let text = ''
          answer.setEncoding('utf8').on('data', (more) => (text += more))
          answer.on('end', () => resolve({ status: answer.statusCode!, text }))
        },
      )
      call.on('error', reject)
      call.end(String(new URLSearchParams(body)))
    })
  return {
    authority,
    reasons,
    through: async (headers: Headers) => (await post('/backchannel/authorize', headers, form('till-tls'))).status,
    /** Whether the call of a client with bound tokens had a certificate, whoever issued it. */
    async hasCertificate(headers: Headers) {
      const authorization = basic('bound', 'hush-hush')
      const { text } = await post('/oauth/token', { ...headers, authorization }, { grant_type: CIBA, auth_req_id: 'x' })
      return text.includes('invalid_grant')
    },
  }
}

describe('a chain that a proxy forwards', () => {
  for (const [name, written] of Object.entries(forms)) {
    test(`is read and checked like one of this server's own handshake: ${name}`, async (t) => {
      const { authority, through, reasons } = await openBehindProxy(t, { chainHeader: 'X-Client-Cert-Chain' })
      for (const [which, { certified, chain, isTrusted }] of Object.entries(await chainsOf(authority))) {
        assert.equal(await through(written(certified, chain)), isTrusted ? 200 : 401, which)
      }
      assert.deepEqual(reasons(), [])
    })
  }

  test('is in Client-Cert-Chain without further settings, if the certificate is in Client-Cert (RFC 9440)', async (t) => {
    const { authority, through } = await openBehindProxy(t, { header: 'Client-Cert' })
    const { certified, chain } = (await chainsOf(authority))['of an authority two levels below the trusted one']!
    const header = { 'client-cert': sequence(certified) }
    assert.equal(await through({ ...header, 'client-cert-chain': chain.map(sequence).join(', ') }), 200)
    assert.equal(await through(header), 401)
  })

  test('of an authority with a key that is too short is refused, even if this authority is configured', async (t) => {
    const authority = await certify({ subject: 'CN=Short', isAuthority: true, kind: 'weak' })
    const { through } = await openBehindProxy(t, { authority })
    assert.equal(await through({ [own]: base64(await certify({ subject, by: authority })) }), 401)
  })

  test('is not read from another header than the configured one', async (t) => {
    const { authority, through } = await openBehindProxy(t)
    const { certified, chain } = (await chainsOf(authority))['of an authority below the trusted one']!
    const header = { [own]: base64(certified), 'client-cert-chain': chain.map(sequence).join(', ') }
    assert.equal(await through(header), 401)
  })

  test('through an authority that may issue certain names only is refused, unless this authority is configured', async (t) => {
    const ours = await openBehindProxy(t)
    const limited = { subject: 'CN=Limited', isAuthority: true, onlyNames: 'bank.example' }
    const between = await certify({ ...limited, by: ours.authority })
    const certified = await certify({ subject, by: between, names: [{ type: 'dns', value: 'bank.example' }] })
    const headers = { [own]: [certified, between].map(base64).join(',') }
    assert.equal(await ours.through(headers), 401)
    assert.equal(await (await openBehindProxy(t, { authority: between })).through(headers), 200)
  })
})

describe('a certificate that a proxy forwards is not read', () => {
  const till = async (by: Certified) => certify({ subject, by })

  const headers: Record<string, [(victim: Certified, attacker: Certified) => Headers, RegExp]> = {
    'if several proxies have added an element of Envoy': [
      (victim, attacker) => ({ [own]: `Hash=a;Cert="${encoded(victim)}",Hash=b;Cert="${encoded(attacker)}"` }),
      /several proxies/,
    ],
    'if several proxies have added an element, the last without a certificate': [
      (victim) => ({ [own]: `Hash=a;Cert="${encoded(victim)}",By=spiffe://a/b;Hash=b;Subject="";URI=spiffe://a/c` }),
      /several proxies/,
    ],
    'if Envoy sends neither Cert nor Chain': [
      () => ({ [own]: `By=http://a.example;Hash=${hash};Subject="/C=US/CN=Test Client";URI=http://b.example` }),
      /neither Cert nor Chain/,
    ],
    'if Cert contains several certificates': [
      (victim, attacker) => ({ [own]: `Cert="${encoded(victim)}${encoded(attacker)}"` }),
      /Cert does not contain one/,
    ],
    'if the header is there twice': [
      (victim, attacker) => ({ [own]: [base64(victim), base64(attacker)] }),
      /several of this header/,
    ],
    'if the proxy has appended another certificate with a comma': [
      (victim, attacker) => ({ [own]: `${base64(victim)}, ${base64(attacker)}` }),
      /not a chain/,
    ],
    'if the proxy has appended another certificate as PEM': [
      (victim, attacker) => ({ [own]: encoded(victim) + encoded(attacker) }),
      /not a chain/,
    ],
    'if further bytes follow it': [
      (victim, attacker) => ({ [own]: Buffer.concat([der(victim), der(attacker)]).toString('base64') }),
      /bytes follow/,
    ],
    'if there are too many certificates': [
      (victim) => ({ [own]: Array(8).fill(base64(victim)).join(',') }),
      /too many/,
    ],
    'if its percent-encoding is not valid': [() => ({ [own]: '%E0%A4%A' }), /percent-encoding/],
    'if the header contains another text': [() => ({ [own]: 'CN=till' }), /no form that is known/],
  }

  for (const [name, [written, reason]] of Object.entries(headers)) {
    test(`${name}; the log says so`, async (t) => {
      const { authority, through, hasCertificate, reasons } = await openBehindProxy(t)
      const shown = written(await till(authority), await certify({ subject: 'CN=attacker' }))
      assert.equal(await through(shown), 401)
      assert.equal(await hasCertificate(shown), false)
      assert.equal(reasons().length, 2)
      for (const each of reasons()) assert.match(each, reason)
    })
  }

  test('if there is none: what proxies write without a certificate (nothing, `::`, `(null)`) is not logged as unreadable', async (t) => {
    const { authority, through, hasCertificate, reasons } = await openBehindProxy(t)
    for (const none of ['', '::', '(null)']) assert.equal(await hasCertificate({ [own]: none }), false)
    assert.equal(await hasCertificate({}), false)
    assert.deepEqual(reasons(), [])
    assert.equal(await through({ [own]: base64(await till(authority)) }), 200)
  })

  test('if the chain cannot be read, it is ignored and the certificate itself is read', async (t) => {
    const { authority, through, hasCertificate } = await openBehindProxy(t, { chainHeader: 'x-client-cert-chain' })
    const certified = await till(authority)
    for (const chain of ['x', '%', ':', `${base64(certified)}A`, 'A'.repeat(9000)]) {
      const headers = { [own]: base64(certified), 'x-client-cert-chain': chain }
      assert.equal(await through(headers), 200, chain.slice(0, 20))
      assert.equal(await hasCertificate(headers), true)
    }
  })
})
