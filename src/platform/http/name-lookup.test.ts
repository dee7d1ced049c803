import assert from 'node:assert/strict'
import dns from 'node:dns'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { createStageClock } from '../../../test/support/clock.ts'
import { addressesOf, ask, longMs, namesAsked, scene, turn } from '../../../test/support/name-lookup.ts'
import { openNameServer } from '../../../test/support/name-server.ts'
import { inTime } from '../../../test/support/until.ts'
import type { Clock } from '../clock.ts'
import { lookupLimits, receiverOf } from './name-lookup.ts'
import { CallFailed, type CallFailure, createGuardedCaller } from './outgoing.ts'

const shortMs = 200

const failsWith = (code: string) => (error: Error & { code?: string }) => {
  assert.equal(error.code, code, String(error))
  return true
}

describe('a receiver whose name server is silent', () => {
  test('has no more than its share of the lookups, and others are resolved meanwhile', async (t) => {
    const { server, lookup } = await scene(t)
    server.hush(/silent\.example$/)
    server.tell('quick.example', ['192.0.2.1'])
    const hanging = ask(lookup, 100, (n) => `n${n}.silent.example`)
    await server.until(() => namesAsked(server).size === lookupLimits.each)
    assert.deepEqual(addressesOf(await lookup.resolve('quick.example')), ['192.0.2.1'])
    await turn()
    assert.equal(lookup.underWay(), lookupLimits.each)
    lookup.close()
    await hanging()
    assert.equal(namesAsked(server, /silent/).size, lookupLimits.each)
  })

  test('is asked twice, and then its lookup ends', async (t) => {
    const { server, lookup } = await scene(t, { timeoutMs: shortMs })
    server.hush(/^silent/)
    await assert.rejects(lookup.resolve('silent.example'), failsWith('ETIMEOUT'))
    await turn()
    assert.equal(lookup.underWay(), 0)
    assert.deepEqual(
      server.asked.toSorted(),
      ['A', 'A', 'AAAA', 'AAAA'].map((type) => `silent.example ${type}`),
    )
  })

  test('is not waited for beyond the deadline, whether its lookup has begun or waits for a place', async (t) => {
    const { server, lookup, clock } = await scene(t)
    server.hush(/^begun/)
    server.tell('waiting1.silent.example', ['192.0.2.1'])
    const failures: unknown[] = []
    const fail = (error: unknown) => void failures.push(error)
    const begun = Array.from({ length: lookupLimits.each }, (_, n) => lookup.resolve(`begun${n}.silent.example`))
    const waiting = Array.from({ length: 20 }, (_, n) => lookup.resolve(`waiting${n}.silent.example`))
    const all = [...begun, ...waiting].map((each) => each.catch(fail))
    await server.until(() => namesAsked(server).size === lookupLimits.each)
    clock.advance(longMs - 1)
    await turn()
    assert.deepEqual([failures.length, lookup.underWay()], [0, lookupLimits.each])
    clock.advance(1)
    await Promise.all(all)
    for (const failure of failures) failsWith('ETIMEOUT')(failure as Error)
    await turn()
    assert.deepEqual([failures.length, lookup.underWay()], [lookupLimits.each + 20, 0])
    assert.equal(namesAsked(server, /^waiting/).size, 0)
    // Only names that were asked for are paused.
    assert.deepEqual(addressesOf(await lookup.resolve('waiting1.silent.example')), ['192.0.2.1'])
    const before = server.asked.length
    await assert.rejects(lookup.resolve('begun1.silent.example'), failsWith('ETIMEOUT'))
    assert.equal(server.asked.length, before)
  })

  test('is not asked for a while, longer each time up to a limit', async (t) => {
    const { server, lookup, clock } = await scene(t, { timeoutMs: 40 })
    server.hush(/^silent/)
    const tries = async () => {
      const before = server.asked.length
      await assert.rejects(lookup.resolve('silent.example'), failsWith('ETIMEOUT'))
      return server.asked.length > before
    }
    assert.equal(await tries(), true)
    for (const pause of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      clock.advance(pause - 1)
      assert.equal(await tries(), false, `within ${pause} ms`)
      clock.advance(1)
      assert.equal(await tries(), true, `after ${pause} ms`)
    }
  })

  test('is asked again at once when it has answered in between', async (t) => {
    const { server, lookup, clock } = await scene(t)
    await assert.rejects(lookup.resolve('new.example'), failsWith('ENOTFOUND'))
    server.tell('new.example', ['192.0.2.1'])
    await assert.rejects(lookup.resolve('new.example'), failsWith('ENOTFOUND'), 'remembered')
    clock.advance(500)
    assert.equal((await lookup.resolve('new.example')).length, 1)
    server.hush(/^new/)
    lookup.resolve('new.example').catch(() => {})
    await server.until(() => lookup.underWay() === 1)
  })

  for (const [silent, answered] of [
    ['AAAA', '192.0.2.1'],
    ['A', '2001:db8::1'],
  ] as const) {
    test(`about ${silent} only is waited for until a quarter of the deadline after the other answer`, async (t) => {
      const clock = createStageClock()
      const graceBegins = Promise.withResolvers<void>()
      const observed: Clock = {
        ...clock,
        after(milliseconds, callback) {
          if (milliseconds === longMs / 4) graceBegins.resolve()
          return clock.after(milliseconds, callback)
        },
      }
      const { server, lookup } = await scene(t, { clock: observed })
      server.tell('half.example', ['192.0.2.1', '2001:db8::1'])
      server.hush(/^half/, silent)
      let found: string[] = []
      const looking = lookup.resolve('half.example').then((addresses) => {
        found = addressesOf(addresses)
      })
      await inTime(graceBegins.promise, () => 'the answer about the other family')
      clock.advance(longMs / 4 - 1)
      await turn()
      assert.deepEqual(found, [])
      clock.advance(1)
      await looking
      assert.deepEqual(found, [answered])
      assert.deepEqual(server.asked.toSorted(), ['half.example A', 'half.example AAAA'])
    })
  }
})

describe('a lookup', () => {
  test('returns the addresses of both families, and is shared by simultaneous callers', async (t) => {
    const { server, lookup } = await scene(t)
    server.tell('both.example', ['192.0.2.1', '192.0.2.2', '2001:db8::1'])
    const found = await Promise.all(Array.from({ length: 50 }, () => lookup.resolve('Both.example')))
    for (const each of found) assert.deepEqual(addressesOf(each), ['2001:db8::1', '192.0.2.1', '192.0.2.2'])
    assert.deepEqual(server.asked.toSorted(), ['both.example A', 'both.example AAAA'])
    dns.setDefaultResultOrder('ipv4first')
    t.after(() => dns.setDefaultResultOrder('verbatim'))
    assert.deepEqual(addressesOf(await lookup.resolve('both.example')), ['192.0.2.1', '192.0.2.2', '2001:db8::1'])
  })

  test('of a name in the hosts file asks no server, and notices when the file changes', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'doorbell-hosts-'))
    t.after(() => rm(folder, { recursive: true }))
    const hosts = join(folder, 'hosts')
    await writeFile(hosts, '# own\n192.0.2.7\tKiosk.example kiosk # here\n2001:db8::7 kiosk\nnonsense till\n')
    const { server, lookup } = await scene(t, { files: { hosts, resolvConf: '/nowhere' } })
    assert.deepEqual(addressesOf(await lookup.resolve('kiosk.example.')), ['192.0.2.7'])
    assert.deepEqual(addressesOf(await lookup.resolve('KIOSK')), ['192.0.2.7', '2001:db8::7'])
    assert.deepEqual(server.asked, [])
    await writeFile(hosts, '192.0.2.8 kiosk till kiosk-two')
    assert.deepEqual(addressesOf(await lookup.resolve('kiosk')), ['192.0.2.8'])
    await assert.rejects(lookup.resolve('kiosk.example'), failsWith('ENOTFOUND'))
    await rm(hosts)
    await assert.rejects(lookup.resolve('kiosk'), failsWith('ENOTFOUND'))
  })

  test('of localhost asks no server, whatever the files contain', async (t) => {
    const { server, lookup } = await scene(t)
    for (const name of ['localhost', 'LOCALHOST', 'localhost.', 'a.localhost']) {
      assert.deepEqual(addressesOf(await lookup.resolve(name)), ['::1', '127.0.0.1'], name)
    }
    assert.deepEqual(server.asked, [])
  })

  test('completes short names as resolv.conf specifies', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'doorbell-resolv-'))
    t.after(() => rm(folder, { recursive: true }))
    const resolvConf = join(folder, 'resolv.conf')
    await writeFile(resolvConf, 'nameserver 127.0.0.1\ndomain x\nsearch a.example. b.example\noptions ndots:2 rotate\n')
    const { server, lookup } = await scene(t, { files: { hosts: '/nowhere', resolvConf } })
    server.tell('kiosk.b.example', ['192.0.2.1'])
    server.tell('one.two.three', ['192.0.2.3'])
    assert.deepEqual(addressesOf(await lookup.resolve('kiosk')), ['192.0.2.1'])
    assert.deepEqual([...namesAsked(server)], ['kiosk.a.example', 'kiosk.b.example'])
    assert.deepEqual(addressesOf(await lookup.resolve('one.two.three')), ['192.0.2.3'])
    server.asked.length = 0
    await assert.rejects(lookup.resolve('kiosk.'), failsWith('ENOTFOUND'))
    assert.deepEqual([...namesAsked(server)], ['kiosk'])
  })

  test('ends when the lookup is closed', async (t) => {
    const { server, lookup } = await scene(t)
    server.hush(/./)
    const hanging = ask(lookup, 20, (n) => `n${n}.example`)
    await server.until(() => server.asked.length > 0)
    lookup.close()
    await hanging()
  })

  test('belongs to a receiver: roughly the registered domain', () => {
    const receivers = {
      'example.com': 'example.com',
      'a.b.example.com': 'example.com',
      'a.example.com.': 'example.com',
      'a.b.example.co.uk': 'example.co.uk',
      'a.example.com.au': 'example.com.au',
      'a.example.de': 'example.de',
      kiosk: 'kiosk',
      '192.0.2.7': '192.0.2.7',
    }
    for (const [name, receiver] of Object.entries(receivers)) assert.equal(receiverOf(name), receiver)
  })
})

describe('a guarded call', () => {
  test('never uses getaddrinfo, which cannot be cancelled', async (t) => {
    const { lookup } = dns.promises
    let asked = 0
    dns.promises.lookup = (() => {
      asked += 1
      return new Promise(() => {})
    }) as never
    syncBuiltinESMExports()
    t.after(() => {
      dns.promises.lookup = lookup
      syncBuiltinESMExports()
    })
    const { call } = await guarded(t)
    const url = await quickServer(t)
    assert.equal((await call({ url: url.replace('127.0.0.1', 'localhost'), method: 'GET' })).body, 'ok')
    assert.equal(asked, 0)
  })

  test('is answered by one receiver while the name servers of a hundred others are silent', async (t) => {
    const { call, server } = await guarded(t)
    server.hush(/silent/)
    server.tell('quick.example', ['127.0.0.1'])
    const url = (await quickServer(t)).replace('127.0.0.1', 'quick.example')
    const stop = new AbortController()
    const hanging = Array.from({ length: 1000 }, (_, n) =>
      assert.rejects(
        call({ url: `https://silent${n % 10}.name${n % 100}.example/`, method: 'GET', signal: stop.signal }),
        failedAs('stopped'),
      ),
    )
    await server.until(() => namesAsked(server).size === 100)
    assert.equal((await call({ url, method: 'GET' })).body, 'ok')
    stop.abort()
    await Promise.all(hanging)
  })

  test('to a name that is not resolved reports why, and so does the next one, without a lookup', async (t) => {
    const { call, server } = await guarded(t, 400)
    server.hush(/silent/)
    const failure = (name: string) => call({ url: `https://${name}/`, method: 'GET' })
    await assert.rejects(failure('missing.example'), failedAs('name_not_found'))
    await assert.rejects(failure('silent.example'), failedAs('timeout'))
    const before = server.asked.length
    await assert.rejects(failure('missing.example'), failedAs('name_not_found'))
    await assert.rejects(failure('silent.example'), failedAs('timeout'))
    assert.equal(server.asked.length, before)
  })

  test('is refused if one of the addresses of the name is private', async (t) => {
    const { call, server } = await guarded(t, longMs, false)
    for (const [name, address] of Object.entries({ a: '10.0.0.1', b: '::1', c: '127.0.0.1', d: 'fd00::1' })) {
      server.tell(`${name}.example`, ['93.184.216.34', '2606:2800:220:1::1', address])
      await assert.rejects(call({ url: `https://${name}.example/`, method: 'GET' }), failedAs('address_forbidden'))
    }
    await assert.rejects(call({ url: 'https://a.localhost/', method: 'GET' }), failedAs('address_forbidden'))
  })
})

async function guarded(t: TestContext, timeout = longMs, allowPrivateNetworks = true) {
  const server = await openNameServer(t)
  const caller = createGuardedCaller({
    timeout,
    maxBytes: 1000,
    allowPrivateNetworks,
    allowHttp: true,
    clock: createStageClock(),
    nameServers: [server.address],
  })
  t.after(() => caller.close())
  const call: typeof caller.call = (request) => inTime(caller.call(request), () => `the answer of ${request.url}`)
  return { ...caller, call, server }
}

async function quickServer(t: TestContext): Promise<string> {
  const server = createServer((_request, response) => response.end('ok'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const failedAs = (word: CallFailure) => (error: unknown) => {
  assert.ok(error instanceof CallFailed, String(error))
  assert.equal(error.word, word)
  return true
}
