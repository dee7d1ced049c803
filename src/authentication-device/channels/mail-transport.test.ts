/** Tests of the connections to the mail server: its certificate, the open connections, and the texts of errors. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { type CertificateOptions, type Certified, certify } from '../../../test/support/certificates.ts'
import { openMailServer } from '../../../test/support/mail-server.ts'
import { loadTexts } from '../../platform/i18n/texts.ts'
import type { Channel, Notice } from './device-notice.ts'
import { createEmailChannel } from './email.ts'
import { tryMailServer } from './mail-transport.ts'

const notice = (id: string): Notice => ({
  id,
  link: 'https://id.example/approve/r1',
  user: { id: 'u1', email: 'ana@example.com' },
  request: {
    request_id: 'r1',
    user_id: 'u1',
    client: { client_id: 'till' },
    scope: 'openid',
    created_at: 1_790_000_000,
    expires_at: 1_790_000_600,
  },
})

const texts = loadTexts()
const timeout = 5_000
const never = new AbortController().signal

function channelTo(
  t: TestContext,
  smtp: string,
  { ca, issuer = 'https://id.example' }: { ca?: string; issuer?: string } = {},
) {
  const channel = createEmailChannel({ smtp, ca, timeout, from: 'a@b.example', issuer, texts })
  t.after(() => channel.close?.())
  return channel
}

const sendOne = (channel: Channel, id = 'n1') => channel.send(notice(id), never)
const onThisMachine: CertificateOptions = {
  subject: 'CN=mail',
  names: [{ type: 'ip', value: '127.0.0.1' }],
  kind: 'rsa',
}

describe('the certificate of a mail server', () => {
  interface Variant {
    certificate?: Partial<CertificateOptions>
    secure?: boolean
    password?: boolean
    ca?: 'its own' | 'another'
    expected: 'delivered' | RegExp
  }
  const variants: Record<string, Variant> = {
    'self-signed, on this machine, without a password, after STARTTLS: accepted': { expected: 'delivered' },
    'self-signed, on this machine, without a password, TLS from the first byte: accepted': {
      secure: true,
      expected: 'delivered',
    },
    'self-signed, on this machine, without a password, for another name and expired: accepted': {
      certificate: { names: [{ type: 'dns', value: 'elsewhere.example' }], from: -9, until: -1 },
      expected: 'delivered',
    },
    'self-signed, with a password: not trusted': {
      password: true,
      expected: /^the certificate of the mail server is not trusted: name its authority in email\.ca \(DEPTH_ZERO_SELF/,
    },
    'self-signed, with a password, TLS from the first byte: not trusted': {
      password: true,
      secure: true,
      expected: /certificate of the mail server is not trusted/,
    },
    'self-signed, with a password, named in email.ca: accepted': {
      password: true,
      ca: 'its own',
      expected: 'delivered',
    },
    'self-signed, without a password, but email.ca names another certificate: not trusted': {
      ca: 'another',
      expected: /certificate of the mail server is not trusted/,
    },
    'for another host name, named in email.ca: refused': {
      certificate: { names: [{ type: 'dns', value: 'elsewhere.example' }] },
      password: true,
      ca: 'its own',
      expected: /^the certificate of the mail server is for another host name/,
    },
    'expired, named in email.ca: refused': {
      certificate: { from: -9, until: -1 },
      password: true,
      ca: 'its own',
      expected: /^the certificate of the mail server has expired/,
    },
    'not valid yet, named in email.ca: refused': {
      certificate: { from: 1 },
      password: true,
      ca: 'its own',
      expected: /^the certificate of the mail server is not valid yet/,
    },
  }

  for (const [name, { certificate, secure = false, password = false, ca, expected }] of Object.entries(variants)) {
    test(name, async (t) => {
      const own: Certified = await certify({ ...onThisMachine, ...certificate })
      const tls = { key: own.key, cert: own.cert, fromTheFirstByte: secure }
      const server = await openMailServer(t, { tls })
      const smtp = password ? server.url.replace('://', '://me:hush-hush@') : server.url
      const authority = ca === 'its own' ? own.cert : ca && (await certify({ subject: 'CN=x', isAuthority: true })).cert
      const trusted = authority === undefined ? {} : { ca: authority }
      const { kind, words } = await sendOne(channelTo(t, smtp, trusted))
      const tried = await tryMailServer({ smtp, ...trusted, hostname: 'id.example', timeout })
      if (expected === 'delivered') {
        assert.deepEqual([kind, tried, server.mails.length], ['delivered', undefined, 1], words)
      } else {
        assert.equal(kind, 'failed')
        assert.match(words, expected)
        assert.equal(tried, words, 'doctor says the same')
      }
    })
  }
})

describe('connections to a mail server', () => {
  test('several mails are sent over one connection', async (t) => {
    const server = await openMailServer(t)
    const channel = channelTo(t, server.url)
    for (const id of ['n1', 'n2', 'n3']) assert.equal((await sendOne(channel, id)).kind, 'delivered')
    assert.deepEqual([server.mails.length, server.connections], [3, 1])
  })

  test('a mail that is refused does not hold up the next one', async (t) => {
    const server = await openMailServer(t)
    const channel = channelTo(t, server.url)
    server.refuses('550 5.1.1 no such person')
    assert.deepEqual(await sendOne(channel), { kind: 'refused', words: 'the mail server answered 550 (5.1.1)' })
    server.refuses(undefined)
    assert.equal((await sendOne(channel)).kind, 'delivered')
  })

  test('if the mail server has closed the connection, the next mail opens a new one', async (t) => {
    const server = await openMailServer(t)
    const channel = channelTo(t, server.url)
    assert.equal((await sendOne(channel)).kind, 'delivered')
    server.hangUp()
    assert.equal((await sendOne(channel)).kind, 'delivered')
    assert.deepEqual([server.mails.length, server.connections], [2, 2])
  })

  test('a connection is closed when the channel is closed', async (t) => {
    const server = await openMailServer(t)
    const channel = channelTo(t, server.url)
    await sendOne(channel)
    const ended = server.allClosed()
    await channel.close?.()
    await ended
  })

  test('a mail server that cannot be reached: the reason is named', async (t) => {
    const server = await openMailServer(t)
    await server.stop()
    assert.deepEqual(await sendOne(channelTo(t, server.url)), {
      kind: 'failed',
      words: 'the mail server cannot be reached (ECONNREFUSED)',
    })
  })

  for (const [issuer, introduction] of [
    ['https://id.example', 'id.example'],
    ['https://id.example:8443/tenant', 'id.example'],
    ['https://bücher.example', 'xn--bcher-kva.example'],
    ['http://127.0.0.1:4000', '[127.0.0.1]'],
    ['http://[::1]:4000', '[IPv6:::1]'],
  ] as const) {
    test(`the server introduces itself with the host of its issuer: ${issuer}`, async (t) => {
      const server = await openMailServer(t)
      await sendOne(channelTo(t, server.url, { issuer }))
      assert.deepEqual(server.introductions, [introduction.toLowerCase()])
    })
  }
})
