/** Addresses that the guarded caller does not connect to, and servers that it does not trust. */
import assert from 'node:assert/strict'
import { createServer as createTlsServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { certify } from '../../../test/support/certificates.ts'
import { caller, failsWith, httpServer, listen, loopback, tcpServer } from '../../../test/support/outgoing.ts'

describe('the guard', () => {
  const guarded = { allowPrivateNetworks: false }
  const one = { address: '93.184.216.34', family: 4 }

  test('refuses addresses in any notation, without opening a connection', async (t) => {
    const { call } = caller(t, { ...guarded, dial: () => assert.fail('dialled') })
    for (const host of [
      '127.0.0.1',
      '0x7f.1',
      '2130706433',
      '10.0.0.1',
      '169.254.169.254',
      '[::1]',
      '[::ffff:8.8.8.8]',
    ])
      await assert.rejects(call({ url: `https://${host}/`, method: 'GET' }), failsWith('address_forbidden'), host)
    await assert.rejects(call({ url: 'http://localhost/', method: 'GET' }), failsWith('address_forbidden'))
  })

  test('refuses a name with one forbidden address among its addresses', async (t) => {
    for (const bad of ['127.0.0.1', '10.1.2.3', '::1', '64:ff9b::a00:1', 'fe80::1%eth0']) {
      const lookup = async () => [one, { address: bad, family: bad.includes(':') ? 6 : 4 }]
      const { call } = caller(t, { ...guarded, lookup, dial: () => assert.fail('dialled') })
      await assert.rejects(call({ url: 'https://client.example/', method: 'GET' }), failsWith('address_forbidden'), bad)
    }
  })

  test('connects to the addresses it checked: a name is not resolved again', async (t) => {
    const answers = [[one], [loopback]]
    const dialled: string[] = []
    const { call } = caller(t, {
      ...guarded,
      lookup: async () => answers.shift() ?? assert.fail('asked too often'),
      dial: (addresses) => {
        dialled.push(...addresses.map(({ address }) => address))
        return brokenSocket()
      },
    })
    await assert.rejects(call({ url: 'https://client.example/', method: 'GET' }), failsWith('refused'))
    assert.deepEqual(dialled, [one.address])
    assert.equal(answers.length, 1)
    await assert.rejects(call({ url: 'https://client.example/', method: 'GET' }), failsWith('address_forbidden'))
    assert.deepEqual(dialled, [one.address])
  })

  test('checks the address that the socket reached, and sends nothing to a forbidden one', async (t) => {
    const received: Buffer[] = []
    const gone = Promise.withResolvers<void>()
    const port = await tcpServer(t, (socket) => {
      socket.on('data', (chunk) => received.push(chunk))
      socket.on('close', () => gone.resolve())
    })
    const { call } = caller(t, { ...guarded, lookup: async () => [one], dial: () => connect(port, '127.0.0.1') })
    await assert.rejects(call({ url: 'https://client.example/', method: 'GET' }), failsWith('address_forbidden'))
    await gone.promise
    assert.deepEqual(received, [])
  })

  test('connects only to the addresses of the lookup', async (t) => {
    const seen: string[] = []
    const url = new URL(
      await httpServer(t, (request, response) => {
        seen.push(`${request.headers.host}`)
        response.end()
      }),
    )
    const { call } = caller(t, { lookup: async () => [{ address: '127.0.0.1', family: 4 }] })
    await call({ url: `http://no-such-name.invalid:${url.port}/`, method: 'GET' })
    assert.deepEqual(seen, [`no-such-name.invalid:${url.port}`])
  })
})

describe('TLS', () => {
  test('a response that is not TLS is tls_failed', async (t) => {
    const port = await tcpServer(t, (socket) => socket.write('220 this is not TLS\r\n'))
    const url = `https://127.0.0.1:${port}/`
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('tls_failed'))
  })

  test('a certificate is accepted when it is trusted and has the name', async (t) => {
    const names = [{ type: 'dns' as const, value: 'client.example' }]
    const { key, cert } = await certify({ subject: 'CN=client.example', names })
    const server = createTlsServer({ key, cert }, (_request, response) => response.end('ok'))
    const port = await listen(t, server)
    const url = (name: string) => `https://${name}:${port}/`
    const lookup = async () => [loopback]

    await assert.rejects(
      caller(t, { lookup }).call({ url: url('client.example'), method: 'GET' }),
      failsWith('tls_failed'),
    )

    assert.equal((await caller(t, { lookup, ca: cert }).call({ url: url('client.example'), method: 'GET' })).body, 'ok')
    await assert.rejects(
      caller(t, { lookup, ca: cert }).call({ url: url('other.example'), method: 'GET' }),
      failsWith('tls_failed'),
    )

    const before = getCACertificates('default')
    t.after(() => setDefaultCACertificates(before))
    setDefaultCACertificates([cert])
    assert.equal((await caller(t, { lookup }).call({ url: url('client.example'), method: 'GET' })).body, 'ok')
    for (const name of ['other.example', '127.0.0.1'])
      await assert.rejects(caller(t, { lookup }).call({ url: url(name), method: 'GET' }), failsWith('tls_failed'))
  })
})

/** A socket that cannot connect, without using the network. */
function brokenSocket(): Socket {
  return connect({
    host: 'broken.invalid',
    port: 1,
    lookup: (_name, _options, callback) => callback(Object.assign(new Error('broken'), { code: 'EHOSTUNREACH' }), ''),
  })
}
