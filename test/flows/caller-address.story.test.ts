/** The address of a caller behind proxies: which entries of the header are trusted, and which are not. */
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import type { AuditEvent } from '../../src/platform/audit.ts'
import { basic, openStage, type Stage } from '../support/stage.ts'

const nowhere = 'https://client.example/notify'

/**
 * The test acts as the nearest proxy. A further trusted proxy may be between the test and the caller. Its address is in
 * 10.0.0.0/8, or is an IPv6 address.
 */
async function openBehindProxies(
  t: TestContext,
  config: ConfigInput = {},
  trust = ['127.0.0.1', '10.0.0.0/8', '2001:db8:9::/48'],
) {
  const heard: AuditEvent[] = []
  const stage = await openStage(t, {
    northbank: nowhere,
    till: nowhere,
    config: {
      development: false,
      issuer: 'https://id.example',
      proxy: { trust },
      metrics: { from: ['127.0.0.1', '10.0.0.0/8', '192.0.2.7', '2001:db8::7'] },
      audit: (event) => void heard.push(event),
      ...config,
    },
  })
  heard.length = 0
  return { stage, heard }
}

interface Call {
  method?: string
  path: string
  /** If this is a list, each entry is sent as a separate header line. */
  forwarded: string | string[] | undefined
  headers?: Record<string, string>
  body?: string
}

/**
 * Sends the call over a connection of its own, with the header unchanged. `fetch` would join and trim the header lines.
 */
function send({ url }: Stage, { method = 'GET', path, forwarded, headers = {}, body = '' }: Call): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      url + path,
      {
        method,
        agent: false,
        headers: { ...headers, ...(forwarded !== undefined && { 'X-Forwarded-For': forwarded }) },
      },
      (answer) => answer.resume().on('end', () => resolve(answer.statusCode ?? 0)),
    )
    sent.on('error', reject).end(body)
  })
}

const form = { 'content-type': 'application/x-www-form-urlencoded', authorization: basic('nobody', 'x') }
const requestFrom = (forwarded: Call['forwarded']): Call => ({
  method: 'POST',
  path: '/backchannel/authorize',
  forwarded,
  headers: form,
  body: 'scope=openid',
})

/**
 * For each header: the caller's address, and whether this caller may read the metrics. `/metrics` is open for 192.0.2.7
 * and 2001:db8::7, and for both kinds of proxy.
 */
const addresses: [name: string, forwarded: Call['forwarded'], address: string, mayReadMetrics: boolean][] = [
  ['no header: the proxy itself, for a health check', undefined, '127.0.0.1', true],
  ['one address', '192.0.2.7', '192.0.2.7', true],
  ['another caller', '198.51.100.7', '198.51.100.7', false],
  ['white space around it', ' \t192.0.2.7\t ', '192.0.2.7', true],
  ['entries that a caller invented, left of its address', '192.0.2.7, 198.51.100.7', '198.51.100.7', false],
  ['the same through two proxies', '192.0.2.7, 198.51.100.7, 10.0.0.9', '198.51.100.7', false],
  ['the same in several lines', ['192.0.2.7', '198.51.100.7', '10.0.0.9'], '198.51.100.7', false],
  ['malformed entries left of a caller', 'rubbish, 198.51.100.7', '198.51.100.7', false],
  ['malformed entries left of a caller, in a line of their own', ['rubbish', '198.51.100.7'], '198.51.100.7', false],
  ['malformed entries left of an honest caller, whose address is still found', 'rubbish, 192.0.2.7', '192.0.2.7', true],
  ['an empty entry left of a caller', ', ,,198.51.100.7', '198.51.100.7', false],
  ['a thousand entries left of a caller', `${'10.0.0.1,'.repeat(1000)}198.51.100.7`, '198.51.100.7', false],
  ['a thousand proxies', `192.0.2.7,${'10.0.0.1,'.repeat(999)}10.0.0.1`, '192.0.2.7', true],
  ['only proxies: the first of them is the caller', '10.1.2.3, 10.0.0.9', '10.1.2.3', true],
  ['malformed entries alone', 'rubbish', 'unknown', false],
  ['a malformed entry where a proxy names its caller', 'rubbish, 10.0.0.9', 'unknown', false],
  ['a malformed entry between', '192.0.2.7, rubbish, 10.0.0.9', 'unknown', false],
  ['a malformed entry at the right end', '192.0.2.7, rubbish', 'unknown', false],
  ['an empty header', '', 'unknown', false],
  ['an empty entry at the right end', '192.0.2.7,', 'unknown', false],
  ['an empty entry between proxies', '192.0.2.7,,10.0.0.9', 'unknown', false],
  ['the word unknown', 'unknown', 'unknown', false],
  ['an obfuscated identifier', '_hidden, 10.0.0.9', 'unknown', false],
  ['the notation of another header', 'for=192.0.2.7', 'unknown', false],
  ['a quoted address', '"192.0.2.7"', 'unknown', false],
  ['a Unix socket path', 'unix:', 'unknown', false],
  ['a name', 'localhost', 'unknown', false],
  ['a number that other programs read as an address', '2130706433', 'unknown', false],
  ['leading zeros', '192.0.2.007', 'unknown', false],
  ['a range', '192.0.2.7/32', 'unknown', false],
  ['semicolons', '10.0.0.9; 192.0.2.7', 'unknown', false],
  ['a port', '192.0.2.7:4711', '192.0.2.7', true],
  ['another port of the same caller', '198.51.100.7:4712', '198.51.100.7', false],
  ['a port in every entry', '192.0.2.7:1, 10.0.0.9:65535', '192.0.2.7', true],
  ['an invalid port', '192.0.2.7:', 'unknown', false],
  ['a host name with a port', 'localhost:80', 'unknown', false],
  ['IPv6', '2001:db8::7', '2001:db8::7', true],
  ['IPv6 in another spelling', '2001:0DB8:0:0:0:0:0:7', '2001:db8::7', true],
  ['IPv6 in brackets', '[2001:db8::7]', '2001:db8::7', true],
  ['IPv6 in brackets, with a port', '[2001:db8::7]:443', '2001:db8::7', true],
  ['IPv6 in brackets, with a port, behind such a proxy', '[2001:db8::7]:443, [2001:db8:9::1]:443', '2001:db8::7', true],
  ['IPv6 of another caller, with what could be a port in it', '2001:db8::8:443', '2001:db8::8:443', false],
  ['half a bracket', '[2001:db8::7', 'unknown', false],
  ['IPv4 in brackets', '[192.0.2.7]:80', 'unknown', false],
  ['a zone', '2001:db8::7%eth0', '2001:db8::7', true],
  ['IPv4 within IPv6', '::ffff:192.0.2.7', '192.0.2.7', true],
  ['IPv4 within IPv6, in hexadecimal', '::ffff:c000:207', '192.0.2.7', true],
  ['an IPv4 proxy within IPv6', '198.51.100.7, ::ffff:10.0.0.9', '198.51.100.7', false],
  ['loopback, claimed by a caller', '127.0.0.1, 198.51.100.7', '198.51.100.7', false],
]

describe('behind trusted proxies', () => {
  test('each form of the header leads to one address, in the audit log and where access depends on the address', async (t) => {
    const { stage, heard } = await openBehindProxies(t)
    for (const [name, forwarded, address, mayReadMetrics] of addresses) {
      heard.length = 0
      assert.equal(await send(stage, requestFrom(forwarded)), 401, name)
      assert.deepEqual(
        heard.map((event) => event.address),
        [address],
        name,
      )
      assert.equal(await send(stage, { path: '/metrics', forwarded }), mayReadMetrics ? 200 : 404, name)
    }
  })

  test('ports do not make several callers of one; all callers with unknown addresses count as one', async (t) => {
    const { stage } = await openBehindProxies(t, { registration: { mode: 'open', perHour: 2 } })
    const register = (forwarded: string) =>
      send(stage, {
        method: 'POST',
        path: '/oauth/register',
        forwarded,
        headers: { 'content-type': 'application/json' },
        body: '{"redirect_uris":["https://client.example/callback"]}',
      })
    const one = ['198.51.100.7:1', '192.0.2.1, 198.51.100.7:2', '198.51.100.7']
    assert.deepEqual([await register(one[0]!), await register(one[1]!), await register(one[2]!)], [201, 201, 429])
    const strange = ['rubbish', '_hidden', '198.51.100.9, unknown, 10.0.0.9']
    assert.deepEqual(
      [await register(strange[0]!), await register(strange[1]!), await register(strange[2]!)],
      [201, 201, 429],
    )
    assert.equal(await register('198.51.100.9'), 201, 'another caller is another')
    // The registrations above were not counted for the address of the proxy.
    assert.equal(await register('10.0.0.9'), 201)
  })

  test('each of a hundred callers is seen with its own address', async (t) => {
    const { stage, heard } = await openBehindProxies(t)
    const callers = Array.from({ length: 100 }, (_, number) => `198.51.${number}.7`)
    for (const caller of callers)
      await send(stage, requestFrom(`10.1.2.3, rubbish, ${caller}:${caller.length}, 10.0.0.9:80`))
    assert.deepEqual(
      heard.map(({ address }) => address),
      callers,
    )
  })
})

describe('without a trusted proxy', () => {
  const anyHeader = ['192.0.2.7', 'rubbish', '', '127.0.0.1', '192.0.2.7, rubbish', '[2001:db8::7]:443']

  test('the header is ignored', async (t) => {
    for (const trust of [[], ['10.0.0.0/8']]) {
      const { stage, heard } = await openBehindProxies(t, {}, trust)
      for (const forwarded of anyHeader) await send(stage, requestFrom(forwarded))
      assert.deepEqual(
        heard.map(({ address }) => address),
        anyHeader.map(() => '127.0.0.1'),
      )
    }
  })
})
