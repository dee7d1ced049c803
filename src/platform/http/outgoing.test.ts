import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import {
  caller,
  essence,
  failsWith,
  httpServer,
  longEnough,
  loopback,
  pour,
  soon,
  tcpServer,
} from '../../../test/support/outgoing.ts'
import { freePort } from '../../../test/support/ports.ts'
import type { Address } from './outgoing.ts'

describe('a response', () => {
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

  test('is requested without additions: no cookies, no Expect', async (t) => {
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

  test('that redirects is returned, not followed', async (t) => {
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

  test('whose body is ignored is complete with its headers, whatever follows', async (t) => {
    const url = await httpServer(t, (request, response) => {
      if (request.url === '/endless') return pour(request, response)
      response.writeHead(200).flushHeaders()
      if (request.url === '/reset') response.write('x', () => response.destroy())
    })
    const { call } = caller(t)
    for (const path of ['/endless', '/hangs', '/reset'])
      assert.deepEqual(await call({ url: url + path, method: 'POST', ignoreBody: true }).then(essence), [200, ''])
  })

  test('whose body is ignored closes its connection at the deadline', async (t) => {
    const url = await httpServer(t, async (_request, response) => {
      response.writeHead(200).flushHeaders()
      await once(response, 'close')
      given.resolve()
    })
    const given = Promise.withResolvers<void>()
    await caller(t, { timeout: soon }).call({ url, method: 'POST', ignoreBody: true })
    await given.promise
  })

  test('whose long body is ignored closes its connection long before', { timeout: longEnough }, async (t) => {
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

  test('with connection_lost when the response is not HTTP', async (t) => {
    const port = await tcpServer(t, (socket) => socket.end('hello\r\n\r\n'))
    const url = `http://127.0.0.1:${port}/`
    await assert.rejects(caller(t).call({ url, method: 'GET' }), failsWith('connection_lost'))
  })

  test('with refused when no server listens', async (t) => {
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

  test('without revealing what was called or sent', async (t) => {
    const url = await httpServer(t, (request) => request.socket.destroy())
    const call = { url: `${url}/p?q=hidden`, headers: { authorization: 'Bearer hidden' }, body: 'hidden' }
    await assert.rejects(caller(t).call({ ...call, method: 'POST' }), (error: Error) => {
      assert.ok(!`${error.stack}${JSON.stringify(error)}${error.cause}`.includes('hidden'))
      return true
    })
  })
})

describe('a call stops', () => {
  test('when its signal is aborted, before or during the call', async (t) => {
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

describe('a target that hangs', () => {
  /**
   * Starts a target that does not respond until the test calls `recovers`. Counts the client's connections to the
   * target.
   */
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

  test('fills its own connections and takes none from another', async (t) => {
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
    assert.equal(dialled.length, 17, 'no connection is opened for a call that has ended')
  })

  test('delays no call to another address of the same origin, however many addresses of it hang', async (t) => {
    const hanging = Promise.withResolvers<void>()
    let arrived = 0
    const url = await httpServer(t, (request, response) => {
      if (request.url === '/of-an-honest-client') response.end('ok')
      else if (++arrived === 300) hanging.resolve()
    })
    const { call } = caller(t, { timeout: 10 * longEnough })
    const stop = new AbortController()
    const calls = Array.from({ length: 600 }, (_, number) => {
      const address = number < 300 ? `/of-client-${number % 30}` : `/hang?client=${number % 30}`
      return assert.rejects(call({ url: url + address, method: 'POST', signal: stop.signal }), failsWith('stopped'))
    })
    await hanging.promise
    assert.equal((await call({ url: `${url}/of-an-honest-client`, method: 'POST' })).body, 'ok')
    stop.abort()
    await Promise.all(calls)
  })

  test('delays no call to another receiver at the same URL, and gets sixteen calls to each receiver at its origin', async (t) => {
    const hanging = Promise.withResolvers<void>()
    let arrived = 0
    const url = await httpServer(t, (request, response) => {
      if (request.method === 'GET') response.end('ok')
      else if (++arrived === 30 * 16) hanging.resolve()
    })
    const { call } = caller(t, { timeout: 10 * longEnough })
    const stop = new AbortController()
    const calls = Array.from({ length: 30 * 20 }, (_, number) => {
      const where = { url: `${url}/gateway?${number % 2}`, receiver: `client ${number % 30}` }
      return assert.rejects(call({ ...where, method: 'POST', signal: stop.signal }), failsWith('stopped'))
    })
    await hanging.promise
    assert.equal((await call({ url: `${url}/gateway?0`, receiver: 'another', method: 'GET' })).body, 'ok')
    assert.equal(arrived, 30 * 16)
    stop.abort()
    await Promise.all(calls)
  })

  test('holds no call longer than allowed, and never has more connections than allowed', async (t) => {
    const { url, dial, atOnce } = await hangingTarget(t)
    const { call } = caller(t, { dial, timeout: soon })
    const hanging = Array.from({ length: 100 }, () =>
      assert.rejects(call({ url, method: 'GET' }), failsWith('timeout')),
    )
    await Promise.all(hanging)
    assert.equal(atOnce(), 16)
  })

  test('is called by the waiting calls as soon as it responds', async (t) => {
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
    // The connections of the stopped calls may still be closing while new connections are opened.
    assert.ok(atOnce() <= 2 * 16, `${atOnce()} connections at once`)
  })
})
