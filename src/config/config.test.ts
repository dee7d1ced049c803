import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { accepted, problemsIn, production } from '../../test/support/configurations.ts'
import { newSecret } from '../platform/crypto.ts'
import { settingKinds } from './schema.ts'

test('defaults', () => {
  const { clients, users, oidc, secret, ...rest } = accepted(production)
  assert.deepEqual([clients, users, oidc, secret], [[], [], {}, production.secret])
  assert.deepEqual(rest, {
    issuer: 'https://id.example.com',
    host: '127.0.0.1',
    port: 4000,
    development: false,
    database: 'sqlite:./doorbell.db',
    postgres: { connections: 10 },
    profile: 'core',
    proxy: { trust: [] },
    strictAssertionAudience: false,
    fetchedKeys: { keepInOutage: 3600 },
    dpop: { requireNonce: false },
    requests: {
      defaultExpiry: 600,
      maxExpiry: 86_400,
      minExpiry: 30,
      interval: 5,
      longestInterval: 30,
      maxBindingMessageLength: 128,
      longPoll: 0,
      repeatTokens: 10,
      maxHeldPolls: 10_000,
      maxOpenPerUser: 5,
      unknownUsers: 'error',
      requireSigned: false,
      numberMatching: false,
    },
    hints: { tokenIssuers: [] },
    userCodes: { maxTries: 5, maxTriesPerClient: 100, maxTriesPerUser: 20, lockSeconds: 900 },
    sessions: { idleTtl: 86_400, absoluteTtl: 1_209_600 },
    tokens: {
      accessTtl: 600,
      idTtl: 3600,
      refreshTtl: 1_209_600,
      idTokenAlg: 'ES256',
      scopes: ['openid', 'profile', 'email', 'phone', 'offline_access'],
    },
    keys: { publishAhead: 3600, keepForHints: 31_536_000 },
    authorizationDetails: { types: {} },
    resources: {},
    notifications: { timeout: 5, attempts: 8, allowPrivateNetworks: false },
    registration: { mode: 'off', perHour: 10 },
    shutdown: { delay: 5 },
    hsts: { maxAge: 31_536_000 },
    retention: { requests: 30, notifications: 30 },
    limits: {
      inFlight: 1000,
      perUser: { perMinute: 10 },
      perClient: { open: 0, perMinute: 0, unknownPerMinute: 30 },
      perSelfRegisteredClient: { open: 100, perMinute: 60 },
      perClientAndUser: { open: 2, perMinute: 5 },
      pauseAfterDenial: { first: 30, longest: 3600 },
      signIn: {
        perName: 5,
        perAddress: 50,
        perNetwork: 200,
        pause: 30,
        longestPause: 900,
        openPerNetwork: 100,
        openInAll: 10_000,
      },
      streams: { perSession: 10, perUser: 20, inAll: 10_000 },
    },
    metrics: { enabled: false, from: [] },
    login: { issuer: 'self', token_endpoint_auth_method: 'client_secret_basic', createUsers: false },
    logLevel: 'info',
    demo: false,
  })
})

test('keys.rotateEvery must be more than keys.publishAhead', () => {
  const keys = (rotateEvery: number, publishAhead?: number) => ({ ...production, keys: { rotateEvery, publishAhead } })
  accepted(keys(3601))
  accepted(keys(7200, 7199))
  assert.deepEqual(problemsIn(keys(3600)), [
    'keys.rotateEvery must be more than keys.publishAhead (3600 seconds); it is 3600',
  ])
  assert.equal(problemsIn(keys(7200, 7200)).length, 1)
  assert.match(problemsIn(keys(60))[0]!, /keys.rotateEvery .*at least 3600/)
  assert.match(problemsIn(keys(7200, 59))[0]!, /keys.publishAhead .*at least 60/)
})

describe('channels', () => {
  const email = { smtp: 'smtp://h', from: 'a@b.c' }
  const deviceWebhook = { url: 'https://h/x', secret: newSecret() }
  const cases: [string, (value: unknown) => Record<string, unknown>, unknown[], unknown[]][] = [
    [
      'email.smtp',
      (smtp) => ({ email: { ...email, smtp } }),
      ['smtp://h', 'smtp://h:1025', 'smtps://me:hu%40sh@mail.example:465', 'smtp://[::1]:25/'],
      ['h', 'mail://h', 'smtp://', 'smtp://h/x', 'smtp://h?x', 'smtp://me:hush%@h', 'https://h', undefined],
    ],
    [
      'email.from',
      (from) => ({ email: { ...email, from } }),
      ['a@b.c', 'Doorbell <a@b.c>', '"Doorbell, Inc." <a@b.c>', 'Café Türklingel <a@b.c>'],
      ['a', 'a@b.c, d@e.f', 'Doorbell a@b.c', 'a@b.c\r\nBcc: d@e.f', 'X\r\nBcc: d@e.f <a@b.c>', '', undefined],
    ],
    [
      'webPush.subject',
      (subject) => ({ webPush: { subject } }),
      ['mailto:a@b.c', 'https://b.c/contact'],
      ['a@b.c', 'mailto:', 'http://b.c', '', undefined],
    ],
    [
      'deviceWebhook.url',
      (url) => ({ deviceWebhook: { ...deviceWebhook, url } }),
      ['https://h', 'https://h:8443/x?y'],
      ['http://h', 'h', 'https://me:hush@h', 'https://h#x', undefined],
    ],
    [
      'deviceWebhook.secret',
      (secret) => ({ deviceWebhook: { ...deviceWebhook, secret } }),
      ['x'.repeat(32)],
      ['hush'.repeat(7), 32, undefined],
    ],
  ]
  for (const [path, input, right, wrong] of cases) {
    test(path, () => {
      for (const value of right) accepted({ ...production, ...input(value) })
      for (const value of wrong) {
        const problems = problemsIn({ ...production, ...input(value) })
        assert.equal(problems.length, 1, `${String(value)}: ${problems.join('\n')}`)
        assert.ok(problems[0]!.startsWith(`${path} `), problems[0])
        assert.doesNotMatch(problems[0]!, /hush/)
      }
    })
  }
  test('in development the webhook may be plain http', () => {
    accepted({ development: true, deviceWebhook: { ...deviceWebhook, url: 'http://localhost:1/x' } })
  })
  test('the hook notify', () => {
    const users = { findByHint() {}, find() {}, notify: 'x' }
    assert.deepEqual(problemsIn({ ...production, users }), ['users.notify must be a function'])
  })
})

test('production needs an issuer and a secret, development neither', () => {
  assert.deepEqual(
    problemsIn({}).map((problem) => problem.split(';')[0]),
    ['issuer is missing', 'secret is missing'],
  )
  assert.equal(accepted({ development: true, port: 4321 }).issuer, 'http://localhost:4321')
  assert.match(problemsIn({ development: true, port: 0 }).join(), /^issuer is missing; with port 0/)
})

test('retention.history must be at least retention.requests', () => {
  const kept = (requests: number, history: number) => ({ ...production, retention: { requests, history } })
  assert.deepEqual(accepted(kept(30, 30)).retention, { requests: 30, notifications: 30, history: 30 })
  assert.deepEqual(problemsIn(kept(30, 29)), ['retention.history must be at least retention.requests (30 days)'])
})

test('the configuration is frozen', () => {
  const config = accepted({ ...production, users: [{ username: 'a' }] })
  assert.throws(() => {
    config.requests.interval = 1
  }, TypeError)
  assert.throws(() => config.tokens.scopes.push('x'), TypeError)
  assert.ok(!Object.isFrozen(config.oidc))
})

describe('development', () => {
  test('is for this machine only, unless it is "exposed"', () => {
    for (const here of [
      {},
      { issuer: 'https://localhost:4000' },
      { host: '::1' },
      { issuer: 'http://127.0.0.1:4000' },
    ]) {
      assert.equal(accepted({ development: true, ...here }).development, true)
    }
    for (const elsewhere of [
      { issuer: 'https://op.example.com' },
      { issuer: 'http://192.168.1.5:4000' },
      { host: '0.0.0.0' },
      { issuer: 'http://localhost.example.com' },
    ]) {
      assert.match(problemsIn({ development: true, ...elsewhere }).join(), /^development true is for this machine only/)
      assert.equal(accepted({ development: 'exposed', ...elsewhere }).development, true)
    }
    assert.match(problemsIn({ development: 'yes' }).join(), /^development must be true, false or "exposed"/)
  })
})

describe('a setting that does not exist', () => {
  const cases: [Record<string, unknown>, string][] = [
    [
      { requests: { defaultExpirey: 5 } },
      'requests.defaultExpirey is not a setting; did you mean requests.defaultExpiry?',
    ],
    [
      { requests: { default_expiry: 5 } },
      'requests.default_expiry is not a setting; did you mean requests.defaultExpiry?',
    ],
    [{ defaultExpiry: 5 }, 'defaultExpiry is not a setting; did you mean requests.defaultExpiry?'],
    [{ isuer: 'x' }, 'isuer is not a setting; did you mean issuer?'],
    [{ token: {} }, 'token is not a setting; did you mean tokens?'],
    [{ zebra: 1 }, 'zebra is not a setting'],
    [{ demo: true }, 'demo is not a setting'],
  ]
  for (const [input, expected] of cases) {
    test(expected, () => {
      const [problem, ...others] = problemsIn({ ...production, ...input })
      assert.ok(problem?.startsWith(expected), problem)
      assert.deepEqual(others, [])
    })
  }
})

test('all problems are reported at once', () => {
  const problems = problemsIn({
    requests: { interval: 0, defaultExpiry: 99_999, intervall: 3 },
    port: 'x',
    email: {},
    clients: [{}],
    users: [{}],
  })
  assert.deepEqual(problems.map((problem) => problem.split(/[ :]/)[0]).sort(), [
    'clients[0].client_id',
    'clients[0].client_secret',
    'clients[0].redirect_uris',
    'email.from',
    'email.smtp',
    'issuer',
    'port',
    'requests.defaultExpiry',
    'requests.interval',
    'requests.intervall',
    'secret',
    'users[0]',
  ])
})

test('the demo is not for production', () => {
  assert.match(problemsIn(production, { demo: true }).join(), /^development must be true for the demo/)
})

test('no problem contains a secret', () => {
  const hush = 'hush-hush'
  const problems = problemsIn({
    issuer: `https://me:${hush}@a.example`,
    secret: hush,
    database: `postgress://me:${hush}@h/db`,
    email: { smtp: `smtp://me:${hush}@h` },
    deviceWebhook: { secret: hush },
    login: { client_secret: [hush] },
    clients: [
      {
        client_id: 'x',
        client_secret: `${hush}\u0000`,
        jwks: { keys: [{ kty: 'EC', d: hush }] },
      },
      { client_id: 'y', client_secret: hush, token_endpoint_auth_method: 'client_secret_jwt' },
      { client_id: 'z', client_secret: hush, jwks_uri: `https://me:${hush}@h`, redirect_uris: 'x' },
    ],
    users: [{ username: 'a', password: [hush], user_code: hush }],
  })
  assert.ok(problems.length >= 10, problems.join('\n'))
  assert.doesNotMatch(problems.join('\n'), /hush/)
  assert.match(problems.join('\n'), /secret must be at least 32 bytes .* 9 characters long/)
})

const documented = () => {
  const text = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')
  const [settings = ''] = text.split('## What Doorbell adds')
  return [...settings.matchAll(/^\| `([^`]+)` *\| (.*?) *\|/gm)].map(([, name = '', unlessSet = '']) => ({
    name,
    unlessSet,
  }))
}

test('docs/configuration.md lists every setting, and no other', () => {
  const listed = documented().map(({ name }) => name)
  assert.deepEqual(listed.sort(), [...settingKinds.keys()].sort())
})

test('docs/configuration.md gives the default of each setting', () => {
  const config = accepted(production)
  const inWords: Record<string, string> = {
    issuer: '`http://localhost:<port>` in development',
    secret: 'generated in development',
    'requests.requireSigned': '`false`; in `fapi-ciba` `true`',
    'userCodes.maxTriesPerUser': '4 × `maxTries`',
    'metrics.enabled': '`true` in development, or if `metrics.token` or `metrics.from` is set',
    'shutdown.delay': '5; in development 0',
  }
  // `limits.perUser.open` is an alias of `requests.maxOpenPerUser`.
  const whole = {
    ...config,
    limits: { ...config.limits, perUser: { open: config.requests.maxOpenPerUser, ...config.limits.perUser } },
  }
  for (const { name, unlessSet } of documented()) {
    assert.equal(unlessSet, inWords[name] ?? written(valueAt(whole, name)), name)
  }
})

function valueAt(config: object, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((inner, name) => (inner as Record<string, unknown> | undefined)?.[name], config)
}

/** Returns a number as the tables show it: `86 400`, but `3600`. */
function written(value: unknown): string {
  if (value === undefined) return '–'
  if (typeof value === 'number') return value < 10_000 ? String(value) : value.toLocaleString('fr').replace(/\s/g, ' ')
  if (Array.isArray(value)) return value.length === 0 ? '`[]`' : `\`${value.join(' ')}\``
  return `\`${typeof value === 'object' ? JSON.stringify(value) : value}\``
}
