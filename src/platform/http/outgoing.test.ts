import assert from 'node:assert/strict'
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import {
  type Address,
  CallFailed,
  type CallFailure,
  createGuardedCaller,
  type GuardedCallerOptions,
} from './outgoing.ts'

const soon = 150
const longEnough = 5_000

function caller(t: TestContext, options: Partial<GuardedCallerOptions> = {}) {
  const made = createGuardedCaller({
    timeout: longEnough,
    maxBytes: 1000,
    allowPrivateNetworks: true,
    allowHttp: true,
    ...options,
  })
  t.after(() => made.close())
  return made
}

const failsWith = (word: CallFailure) => (error: unknown) => {
  assert.ok(error instanceof CallFailed, String(error))
  assert.equal(error.word, word)
  return true
}

describe('an answer', () => {
  test('comes with status, headers and body', async (t) => {
    const seen: string[] = []
    const url = await httpServer(t, (request, response) => {
      seen.push(`${request.method} ${request.url} ${request.headers.authorization}`)
      request.on('data', (chunk) => seen.push(String(chunk)))
      request.on('end', () => response.writeHead(201, { 'X-One': '1', 'Set-Cookie': ['a=1', 'b=2'] }).end('hé'))
    })
    const answer = await caller(t).call({
      url: `${url}/path?q=1#part`,
      method: 'POST',
      headers: { authorization: 'Bearer x' },
      body: '{}',
    })
    assert.equal(answer.status, 201)
    assert.equal(answer.body, 'hé')
    assert.equal(answer.headers['x-one'], '1')
    assert.equal(answer.headers['set-cookie'], 'a=1, b=2')
    assert.deepEqual(seen, ['POST /path?q=1 Bearer x', '{}'])
  })

  test('sends nothing that was not asked for: no cookies, no Expect', async (t) => {
    const seen: string[][] = []
    const url = await httpServer(t, (request, response) => {
      seen.push(Object.keys(request.headers).sort())
      response.writeHead(200, { 'Set-Cookie': 'a=1' }).end()
    })
    const { call } = caller(t)
    await call({ url, method: 'GET' })
    await call({ url, method: 'GET' })
    assert.deepEqual(seen, [
      ['connection', 'host'],
      ['connection', 'host'],
    ])
  })

  test('of a redirect is the redirect', async (t) => {
    let calls = 0
    const url = await httpServer(t, (_request, response) => {
      calls += 1
      response.writeHead(302, { Location: '/elsewhere' }).end()
    })
    const answer = await caller(t).call({ url, method: 'POST', body: 'x' })
    assert.equal(answer.status, 302)
    assert.equal(answer.headers.location, '/elsewhere')
    assert.equal(calls, 1)
  })

  test('may be as long as allowed, and no longer', async (t) => {
    const url = await httpServer(t, (request, response) => response.end('x'.repeat(Number(request.url?.slice(1)))))
    const { call } = caller(t)
    assert.equal((await call({ url: `${url}/1000`, method: 'GET' })).body.length, 1000)
    await assert.rejects(call({ url: `${url}/1001`, method: 'GET' }), failsWith('too_large'))
  })

  test('without end is too large', async (t) => {
    const url = await httpServer(t, pour)
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('too_large'))
  })

  test('with endless headers is too large', async (t) => {
    const port = await tcpServer(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      socket.write(`X-Long: ${'x'.repeat(100_000)}\r\n`)
    })
    await assert.rejects(caller(t).call({ url: `http://127.0.0.1:${port}/`, method: 'GET' }), failsWith('too_large'))
  })

  test('whose body is ignored is there with its headers, whatever follows', async (t) => {
    const url = await httpServer(t, (request, response) => {
      if (request.url === '/endless') return pour(request, response)
      response.writeHead(200).flushHeaders()
      if (request.url === '/reset') response.write('x', () => response.destroy())
    })
    const { call } = caller(t)
    for (const path of ['/endless', '/hangs', '/reset'])
      assert.deepEqual(await call({ url: url + path, method: 'POST', ignoreBody: true }).then(essence), [200, ''])
  })

  test('whose body is ignored gives up its connection at the deadline', async (t) => {
    const url = await httpServer(t, async (_request, response) => {
      response.writeHead(200).flushHeaders()
      await once(response, 'close')
      given.resolve()
    })
    const given = Promise.withResolvers<void>()
    await caller(t, { timeout: soon }).call({ url, method: 'POST', ignoreBody: true })
    await given.promise
  })

  test('whose long body is ignored gives up its connection long before', { timeout: longEnough }, async (t) => {
    const given = Promise.withResolvers<void>()
    const url = await httpServer(t, (request, response) => {
      response.once('close', () => given.resolve())
      pour(request, response)
    })
    await caller(t, { timeout: 10 * longEnough }).call({ url, method: 'POST', ignoreBody: true })
    await given.promise
  })

  test('whose short body is ignored leaves its connection for the next call', async (t) => {
    const sockets = new Set<Socket>()
    const url = await httpServer(t, (request, response) => {
      sockets.add(request.socket)
      response.end('ok')
    })
    const { call } = caller(t)
    for (let i = 0; i < 5; i += 1) {
      await call({ url, method: 'POST', ignoreBody: true })
      await new Promise(setImmediate)
    }
    assert.ok(sockets.size < 5)
  })
})

describe('a call fails', () => {
  test('with timeout when the server hangs', async (t) => {
    const url = await httpServer(t, () => {})
    await assert.rejects(caller(t, { timeout: soon }).call({ url, method: 'GET' }), failsWith('timeout'))
  })

  test('with timeout when the body hangs', async (t) => {
    const url = await httpServer(t, (_request, response) => void response.write('x'))
    await assert.rejects(caller(t, { timeout: soon }).call({ url, method: 'GET' }), failsWith('timeout'))
  })

  test('with timeout when bytes come slowly', async (t) => {
    const url = await httpServer(t, (_request, response) => {
      const dripping = setInterval(() => response.write('x'), 20)
      response.once('close', () => clearInterval(dripping))
    })
    await assert.rejects(caller(t, { timeout: soon }).call({ url, method: 'GET' }), failsWith('timeout'))
  })

  test('with timeout when the name is not resolved', async (t) => {
    const { call } = caller(t, { timeout: soon, lookup: () => new Promise(() => {}) })
    await assert.rejects(call({ url: 'http://client.example/', method: 'GET' }), failsWith('timeout'))
  })

  test('with timeout when the TLS handshake hangs', async (t) => {
    const port = await tcpServer(t, () => {})
    const { call } = caller(t, { timeout: soon })
    await assert.rejects(call({ url: `https://127.0.0.1:${port}/`, method: 'GET' }), failsWith('timeout'))
  })

  test('with connection_lost when the server closes the socket', async (t) => {
    const url = await httpServer(t, (request) => request.socket.destroy())
    await assert.rejects(caller(t).call({ url, method: 'POST', body: 'x' }), failsWith('connection_lost'))
  })

  test('with connection_lost when the body breaks off', async (t) => {
    const url = await httpServer(t, (_request, response) => {
      response.writeHead(200, { 'Content-Length': 10 })
      response.write('x', () => response.destroy())
    })
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('connection_lost'))
  })

  test('with connection_lost when the answer is not HTTP', async (t) => {
    const port = await tcpServer(t, (socket) => socket.end('hello\r\n\r\n'))
    const url = `http://127.0.0.1:${port}/`
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('connection_lost'))
  })

  test('with refused when nobody listens', async (t) => {
    const url = `http://127.0.0.1:${await freePort()}/`
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('refused'))
    const { call } = caller(t, { lookup: async () => [loopback, { address: '127.0.0.2', family: 4 }] })
    await assert.rejects(call({ url: url.replace('127.0.0.1', 'client.example'), method: 'GET' }), failsWith('refused'))
  })

  test('with name_not_found when the name has no address', async (t) => {
    const missing = Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' })
    for (const lookup of [() => Promise.reject(missing), async () => []])
      await assert.rejects(
        caller(t, { lookup }).call({ url: 'https://client.example/', method: 'GET' }),
        failsWith('name_not_found'),
      )
  })

  test('with bad_url or not_https before anything is done', async (t) => {
    const lookup = () => assert.fail('looked up')
    const { call } = caller(t, { lookup, allowHttp: false })
    for (const url of ['', 'x', 'https://', 'https://u@client.example', 'https://:p@client.example', 'https://a b/'])
      await assert.rejects(call({ url, method: 'GET' }), failsWith('bad_url'), url)
    for (const url of ['http://client.example', 'ftp://client.example/x', 'HTTP://client.example'])
      await assert.rejects(call({ url, method: 'GET' }), failsWith('not_https'), url)
    await assert.rejects(caller(t).call({ url: 'ftp://client.example/', method: 'GET' }), failsWith('not_https'))
  })

  test('saying nothing of what was called or sent', async (t) => {
    const url = await httpServer(t, (request) => request.socket.destroy())
    const call = { url: `${url}/p?q=hidden`, headers: { authorization: 'Bearer hidden' }, body: 'hidden' }
    await assert.rejects(caller(t).call({ ...call, method: 'POST' }), (error: Error) => {
      assert.ok(!`${error.stack}${JSON.stringify(error)}${error.cause}`.includes('hidden'))
      return true
    })
  })
})

describe('a call stops', () => {
  test('when its signal says so, before and meanwhile', async (t) => {
    const arrived = Promise.withResolvers<void>()
    const url = await httpServer(t, () => arrived.resolve())
    const { call } = caller(t)
    await assert.rejects(call({ url, method: 'GET', signal: AbortSignal.abort() }), failsWith('stopped'))
    const stop = new AbortController()
    const calling = call({ url, method: 'GET', signal: stop.signal })
    await arrived.promise
    stop.abort()
    await assert.rejects(calling, failsWith('stopped'))
  })

  test('when everything is closed', async (t) => {
    const arrived = Promise.withResolvers<void>()
    const url = await httpServer(t, () => arrived.resolve())
    const { call, close } = caller(t)
    const stopped = assert.rejects(call({ url, method: 'GET' }), failsWith('stopped'))
    await arrived.promise
    await close()
    await stopped
    await assert.rejects(call({ url, method: 'GET' }), failsWith('stopped'))
    await close()
  })
})

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

  test('connects to the addresses it checked: a name that turns private later is not asked again', async (t) => {
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

  test('asks the socket whom it reached, and sends nothing to whom it must not', async (t) => {
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

  test('pins the addresses of the lookup', async (t) => {
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

describe('a target that hangs', () => {
  /** Answers nobody until told to. Counts, where they are opened, the connections to it. */
  async function hangingTarget(t: TestContext) {
    const first16 = Promise.withResolvers<void>()
    const dialled: Socket[] = []
    let atOnce = 0
    let arrived = 0
    let hangs = true
    const url = await httpServer(t, (_request, response) => {
      arrived += 1
      if (!hangs) response.end('ok')
      else if (arrived === 16) first16.resolve()
    })
    return {
      url,
      dialled,
      first16: first16.promise,
      atOnce: () => atOnce,
      recovers() {
        hangs = false
      },
      dial(_addresses: Address[], port: number) {
        const socket = connect(port, '127.0.0.1')
        if (url.endsWith(`:${port}`)) dialled.push(socket)
        atOnce = Math.max(atOnce, dialled.filter(({ destroyed }) => !destroyed).length)
        return socket
      },
    }
  }

  test('fills its own connections and takes nothing from another', async (t) => {
    const { url, dial, dialled, first16, recovers } = await hangingTarget(t)
    const quick = await httpServer(t, (_request, response) => response.end('ok'))
    const { call } = caller(t, { dial, timeout: 10 * longEnough })
    const stop = new AbortController()
    const hanging = Array.from({ length: 100 }, () =>
      assert.rejects(call({ url, method: 'GET', signal: stop.signal }), failsWith('stopped')),
    )
    await first16
    assert.equal((await call({ url: quick, method: 'GET' })).body, 'ok')
    assert.equal(dialled.length, 16)

    stop.abort()
    await Promise.all(hanging)
    recovers()
    assert.equal((await call({ url, method: 'GET' })).body, 'ok')
    assert.equal(dialled.length, 17, 'nobody connects for a call that has ended')
  })

  test('keeps nobody longer than allowed, and never has more connections than it may', async (t) => {
    const { url, dial, atOnce } = await hangingTarget(t)
    const { call } = caller(t, { dial, timeout: soon })
    const hanging = Array.from({ length: 100 }, () =>
      assert.rejects(call({ url, method: 'GET' }), failsWith('timeout')),
    )
    await Promise.all(hanging)
    assert.equal(atOnce(), 16)
  })

  test('is called by those who waited, as soon as it answers', async (t) => {
    const { url, dial, atOnce, first16, recovers } = await hangingTarget(t)
    const { call } = caller(t, { dial, timeout: 10 * longEnough })
    const stop = new AbortController()
    const hanging = Array.from({ length: 16 }, () =>
      assert.rejects(call({ url, method: 'GET', signal: stop.signal }), failsWith('stopped')),
    )
    const waiting = Array.from({ length: 50 }, () => call({ url, method: 'GET' }))
    await first16
    recovers()
    stop.abort()
    for (const { body } of await Promise.all(waiting)) assert.equal(body, 'ok')
    await Promise.all(hanging)
    assert.equal(atOnce(), 16)
  })
})

describe('TLS', () => {
  test('answers that are not TLS are tls_failed', async (t) => {
    const port = await tcpServer(t, (socket) => socket.write('220 this is not TLS\r\n'))
    const url = `https://127.0.0.1:${port}/`
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('tls_failed'))
  })

  test('a certificate counts when it is trusted and has the name', async (t) => {
    const { key, cert } = selfSigned('client.example')
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

const loopback = { address: '127.0.0.1', family: 4 }

const essence = (answer: { status: number; body: string }) => [answer.status, answer.body]

const pour: RequestListener = (_request, response) => {
  const more = () => {
    while (!response.destroyed && response.write('x'.repeat(10_000)));
  }
  response.on('drain', more)
  more()
}

async function httpServer(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  const port = await listen(t, server)
  return `http://127.0.0.1:${port}`
}

async function tcpServer(t: TestContext, listener: (socket: Socket) => void): Promise<number> {
  return listen(
    t,
    createTcpServer((socket) => {
      socket.on('error', () => {}).resume()
      listener(socket)
    }),
  )
}

async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as AddressInfo).port
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A socket that cannot connect, without asking the network. */
function brokenSocket(): Socket {
  return connect({
    host: 'broken.invalid',
    port: 1,
    lookup: (_name, _options, callback) => callback(Object.assign(new Error('broken'), { code: 'EHOSTUNREACH' }), ''),
  })
}

/** A certificate for `name`, signed by itself. */
function selfSigned(name: string): { key: string; cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const body = certificateBody(name, publicKey)
  const signature = sign('sha256', body, privateKey)
  const cert = der(0x30, body, ecdsaWithSha256, der(0x03, Buffer.of(0), signature))
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${cert.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
  }
}

const ecdsaWithSha256 = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')))

function certificateBody(name: string, publicKey: KeyObject): Buffer {
  const commonName = der(0x30, der(0x06, Buffer.from('550403', 'hex')), der(0x0c, Buffer.from(name)))
  const who = der(0x30, der(0x31, commonName))
  const validity = [new Date(Date.now() - 86_400_000), new Date(Date.now() + 86_400_000)]
  const names = der(0x30, der(0x82, Buffer.from(name)))
  const alternativeNames = der(0x30, der(0x06, Buffer.from('551d11', 'hex')), der(0x04, names))
  return der(
    0x30,
    der(0xa0, der(0x02, Buffer.of(2))),
    der(0x02, Buffer.of(1)),
    ecdsaWithSha256,
    who,
    der(0x30, ...validity.map((date) => der(0x18, Buffer.from(date.toISOString().replace(/\.\d+|[-:T]/g, ''))))),
    who,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(0x30, alternativeNames)),
  )
}

function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const length = content.length
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content])
  return Buffer.concat([Buffer.of(tag, 0x82, length >> 8, length & 0xff), content])
}
