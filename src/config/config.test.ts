import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { newSecret } from '../platform/crypto.ts'
import { checkConfig, type ValidationContext } from './check.ts'
import { settingKinds } from './schema.ts'

const production = { issuer: 'https://id.example.com', secret: newSecret() }

function accepted(input: Record<string, unknown>, context?: ValidationContext) {
  const checked = checkConfig(input, context)
  if ('problems' in checked) assert.fail(checked.problems.join('\n'))
  return checked.config
}

function problemsIn(input: Record<string, unknown>, context?: ValidationContext) {
  const checked = checkConfig(input, context)
  return 'problems' in checked ? checked.problems : []
}

/** A setting by its dotted path, as input. */
function setting(path: string, value: unknown): Record<string, unknown> {
  const nested = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value)
  return { ...production, ...(nested as Record<string, unknown>) }
}

it('defaults', () => {
  const { clients, users, oidc, secret, ...rest } = accepted(production)
  assert.deepEqual([clients, users, oidc, secret], [[], [], {}, production.secret])
  assert.deepEqual(rest, {
    issuer: 'https://id.example.com',
    host: '127.0.0.1',
    port: 4000,
    development: false,
    database: 'sqlite:./doorbell.db',
    profile: 'core',
    proxy: { trust: [] },
    strictAssertionAudience: false,
    dpop: { requireNonce: false },
    requests: {
      defaultExpiry: 600,
      maxExpiry: 86_400,
      minExpiry: 30,
      interval: 5,
      maxBindingMessageLength: 128,
      longPoll: 0,
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
    login: { issuer: 'self' },
    logLevel: 'info',
    demo: false,
  })
})

it('keys do not follow each other faster than they are published', () => {
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
    it(path, () => {
      for (const value of right) accepted({ ...production, ...input(value) })
      for (const value of wrong) {
        const problems = problemsIn({ ...production, ...input(value) })
        assert.equal(problems.length, 1, `${String(value)}: ${problems.join('\n')}`)
        assert.ok(problems[0]!.startsWith(`${path} `), problems[0])
        assert.doesNotMatch(problems[0]!, /hush/)
      }
    })
  }
  it('in development the webhook may be plain http', () => {
    accepted({ development: true, deviceWebhook: { ...deviceWebhook, url: 'http://localhost:1/x' } })
  })
  it('the hook notify', () => {
    const users = { findByHint() {}, find() {}, notify: 'x' }
    assert.deepEqual(problemsIn({ ...production, users }), ['users.notify must be a function'])
  })
})

it('production needs an issuer and a secret, development neither', () => {
  assert.deepEqual(
    problemsIn({}).map((problem) => problem.split(';')[0]),
    ['issuer is missing', 'secret is missing'],
  )
  assert.equal(accepted({ development: true, port: 4321 }).issuer, 'http://localhost:4321')
  assert.match(problemsIn({ development: true, port: 0 }).join(), /^issuer is missing; with port 0/)
})

it('history is not kept for less than requests are', () => {
  const kept = (requests: number, history: number) => ({ ...production, retention: { requests, history } })
  assert.deepEqual(accepted(kept(30, 30)).retention, { requests: 30, notifications: 30, history: 30 })
  assert.deepEqual(problemsIn(kept(30, 29)), ['retention.history must be at least retention.requests (30 days)'])
})

describe('limits', () => {
  it('of what users are asked are off in development unless they are set, and those of sign-ins are not', () => {
    const { perUser, perClientAndUser, pauseAfterDenial, signIn } = accepted({ development: true }).limits
    assert.deepEqual([perUser.perMinute, perClientAndUser.perMinute, pauseAfterDenial.first], [0, 0, 0])
    assert.equal(signIn.perName, 5)
    const set = { perUser: { perMinute: 3 }, pauseAfterDenial: { first: 7 } }
    const { limits } = accepted({ development: true, limits: set })
    assert.deepEqual([limits.perUser.perMinute, limits.pauseAfterDenial], [3, { first: 7, longest: 3600 }])
  })
  it('requests.maxOpenPerUser and limits.perUser.open are one limit', () => {
    assert.equal(accepted(setting('limits.perUser.open', 2)).requests.maxOpenPerUser, 2)
    assert.equal(accepted({ ...setting('limits.perUser.open', 2), requests: { maxOpenPerUser: 2 } }).port, 4000)
    assert.match(
      problemsIn({ ...setting('limits.perUser.open', 2), requests: { maxOpenPerUser: 3 } }).join(),
      /^limits.perUser.open and requests.maxOpenPerUser are two names/,
    )
  })
})

describe('metrics', () => {
  const token = 't'.repeat(32)
  it('are for nobody outside development until somebody is named', () => {
    assert.equal(accepted({ development: true }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { token } }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { from: ['10.0.0.0/8'] } }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { enabled: false, token } }).metrics.enabled, false)
    assert.equal(accepted({ ...production, metrics: false }).metrics.enabled, false)
    for (const metrics of [true, { enabled: true }]) {
      assert.match(problemsIn({ ...production, metrics }).join(), /^metrics.enabled needs metrics.token/)
    }
  })
  it('a token is long and no secret of a problem', () => {
    for (const wrong of ['hush', `${token} hush`, 5]) {
      const problems = problemsIn({ ...production, metrics: { token: wrong } })
      assert.equal(problems.length, 1)
      assert.match(problems[0]!, /^metrics.token must be/)
      assert.doesNotMatch(problems[0]!, /hush/)
    }
  })
})

it('the audit hook is a function', () => {
  const audit = () => {}
  assert.equal(accepted({ ...production, audit }).audit, audit)
  assert.match(problemsIn({ ...production, audit: 'log' }).join(), /^audit must be a function/)
})

it('the result cannot be changed', () => {
  const config = accepted({ ...production, users: [{ username: 'a' }] })
  assert.throws(() => {
    config.requests.interval = 1
  }, TypeError)
  assert.throws(() => config.tokens.scopes.push('x'), TypeError)
  assert.ok(!Object.isFrozen(config.oidc))
})

describe('numbers at their boundaries', () => {
  const cases: [string, number, number][] = [
    ['port', 0, 65_535],
    ['requests.maxExpiry', 600, 1_209_600],
    ['requests.interval', 1, 3600],
    ['requests.maxBindingMessageLength', 1, 1024],
    ['requests.maxOpenPerUser', 1, 1000],
    ['limits.perUser.open', 1, 1000],
    ['limits.perUser.perMinute', 0, 1_000_000],
    ['limits.perClient.perMinute', 0, 1_000_000],
    ['limits.pauseAfterDenial.longest', 1, 86_400],
    ['limits.signIn.perName', 1, 1000],
    ['limits.streams.perUser', 1, 1000],
    ['limits.streams.inAll', 1, 1_000_000],
    ['sessions.idleTtl', 60, 31_536_000],
    ['sessions.absoluteTtl', 60, 31_536_000],
    ['tokens.accessTtl', 1, 31_536_000],
    ['tokens.idTtl', 1, 31_536_000],
    ['tokens.refreshTtl', 1, 315_360_000],
    ['notifications.timeout', 1, 60],
    ['notifications.attempts', 1, 50],
  ]
  for (const [path, least, most] of cases) {
    it(path, () => {
      for (const value of [least, most]) accepted(setting(path, value))
      for (const value of [least - 1, most + 1, 1.5, '5', Number.NaN, null, [], true, -1]) {
        assert.equal(problemsIn(setting(path, value)).length, 1, `${path} ${value}`)
      }
    })
  }
  it('say what they are', () => {
    assert.deepEqual(problemsIn(setting('requests.interval', 'five')), [
      'requests.interval must be a whole number of seconds, at least 1 and at most 3600; it is "five"',
    ])
  })
  it('fit together', () => {
    accepted({ ...production, requests: { defaultExpiry: 60, maxExpiry: 60 } })
    const inside = { allowPrivateNetworks: true }
    accepted({ ...production, notifications: inside, registration: { mode: 'token' } })
    assert.match(
      String(problemsIn({ ...production, notifications: inside, registration: { mode: 'open' } })),
      /^registration.mode must not be "open" while notifications.allowPrivateNetworks is true/,
    )
    assert.deepEqual(problemsIn({ ...production, requests: { defaultExpiry: 61, maxExpiry: 60 } }), [
      'requests.defaultExpiry must be at most requests.maxExpiry (60 seconds); it is 61',
    ])
    accepted({ ...production, requests: { defaultExpiry: 45, maxExpiry: 60, minExpiry: 45 } })
    assert.deepEqual(problemsIn({ ...production, requests: { defaultExpiry: 45, minExpiry: 46 } }), [
      'requests.minExpiry must be at most requests.defaultExpiry (45 seconds); it is 46',
    ])
    assert.equal(accepted({ ...production, requests: { defaultExpiry: 20 } }).requests.minExpiry, 20)
    assert.equal(accepted({ development: true }).requests.minExpiry, 1)
    assert.equal(accepted({ development: true }).limits.perClientAndUser.open, 0)
    assert.equal(accepted({ ...production, userCodes: { maxTries: 3 } }).userCodes.maxTriesPerUser, 12)
    assert.match(
      String(problemsIn({ ...production, userCodes: { maxTriesPerUser: 5 } })),
      /^userCodes.maxTriesPerUser must be more than userCodes.maxTries \(5\)/,
    )
  })
})

describe('values', () => {
  const bytes31 = newSecret(31)
  const cases: [string, unknown[], unknown[]][] = [
    ['issuer', ['https://a.example', 'https://a.example:8443/op'], []],
    [
      'issuer',
      [],
      [
        'http://a.example',
        'http://localhost:4000',
        'https://a.example/',
        'https://a.example/op/',
        'https://A.example',
        'https://a.example:443',
        'https://a.example?x',
        'https://a.example?',
        'https://a.example#x',
        'https://u:p@a.example',
        'https://',
        'a.example',
        '',
        5,
      ],
    ],
    ['secret', [newSecret(32), newSecret(64)], [bytes31, '', `${newSecret(32)}=`, `${newSecret(32)} `, 7]],
    [
      'database',
      [
        'sqlite::memory:',
        'sqlite:x.db',
        'sqlite:/x/y.db',
        'sqlite:///x.db',
        'postgres://h/db',
        'postgresql://u:p@h/db',
      ],
      ['sqlite:', 'sqlite://x.db', 'x.db', 'mysql://h/db', 'postgres:h', 'postgres://h:port/db', ''],
    ],
    [
      'host',
      ['0.0.0.0', '::', '::1', 'localhost', 'a-b.example'],
      ['localhost:4000', 'http://x', '[::1]', '', 'a b', '-'],
    ],
    [
      'proxy.trust',
      [[], ['10.0.0.0/8', '127.0.0.1', 'fd00::/8', '::1', '0.0.0.0/0']],
      ['10.0.0.0/8', ['10.0.0.0/33'], ['10.0.0'], ['::/129'], ['proxy.example'], ['10.0.0.0/'], [4]],
    ],
    ['tokens.scopes', [['openid'], ['openid', 'a:b']], [[], ['profile'], ['openid', 'a b'], ['openid', ''], 'openid']],
    ['tokens.idTokenAlg', ['ES256', 'RS256', 'PS256'], ['HS256', 'none', 'es256']],
    ['development', ['exposed', false], ['true', 1, null, 'open']],
    ['requests.numberMatching', [true, false, 'required'], ['true', 1, 'always']],
    ['requests.longPoll', [0, 30], [31, -1, 0.5, '30']],
    ['requests.maxHeldPolls', [1, 10_000], [0, '10']],
    ['logLevel', ['debug', 'silent'], ['verbose', 3]],
    ['clients', [[]], [{}, 'x', [1], [null]]],
    ['oidc', [{ ttl: {} }], [[], 'x']],
    ['requests', [{}], [5, 'x', []]],
  ]
  for (const [path, right, wrong] of cases) {
    it(`${path}${right.length ? '' : ', refused'}`, () => {
      for (const value of right) accepted(setting(path, value))
      for (const value of wrong) {
        const problems = problemsIn(setting(path, value))
        assert.equal(problems.length, 1, `${JSON.stringify(value)}: ${problems.join('\n')}`)
        assert.ok(problems[0]!.startsWith(path), problems[0])
      }
    })
  }

  it('an issuer in development may be plain http, and is told its plainest spelling', () => {
    accepted({ development: 'exposed', issuer: 'http://192.168.1.5:4000' })
    assert.match(
      problemsIn({ development: true, issuer: 'http://LOCALHOST:4000/' }).join(),
      /"http:\/\/localhost:4000"/,
    )
  })
})

describe('development', () => {
  it('is for this machine, unless it is said to be exposed', () => {
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
      assert.match(
        problemsIn({ development: true, ...elsewhere }).join(),
        /^development true is for this machine only/,
      )
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
    it(expected, () => {
      const [problem, ...others] = problemsIn({ ...production, ...input })
      assert.ok(problem?.startsWith(expected), problem)
      assert.deepEqual(others, [])
    })
  }
})

describe('the profile fapi-ciba refuses, each by name,', () => {
  const proxied = { proxy: { trust: ['10.0.0.1'], clientCertificateHeader: 'x-client-cert' } }
  const bank = {
    client_id: 'bank',
    grant_types: ['urn:openid:params:grant-type:ciba'],
    backchannel_token_delivery_mode: 'poll',
    backchannel_authentication_request_signing_alg: 'PS256',
    token_endpoint_auth_method: 'private_key_jwt',
    jwks_uri: 'https://bank.example/jwks',
  }
  const cases: [name: string, input: Record<string, unknown>, expected: RegExp][] = [
    ['a server that sees no certificates', { proxy: {} }, /^profile "fapi-ciba" needs tls or proxy.*FI-2/],
    [
      'tokens that anybody may use',
      { clients: [{ ...bank, tls_client_certificate_bound_access_tokens: false }] },
      /^clients\[0\].tls_client_certificate_bound_access_tokens must be true.*FI-2/,
    ],
    ['an http issuer', { issuer: 'http://localhost:4000', development: true }, /^issuer must start with https/],
    ['ID tokens by RS256', { tokens: { idTokenAlg: 'RS256' } }, /^tokens.idTokenAlg must be ES256 or PS256.*FC-15/],
    ['unsigned requests', { requests: { requireSigned: false } }, /^requests.requireSigned must not be false.*FC-7/],
    ['what oidc-provider is told directly', { oidc: { pkce: {} } }, /^oidc must be empty/],
    [
      'push',
      {
        clients: [
          {
            ...bank,
            backchannel_token_delivery_mode: 'push',
            backchannel_client_notification_endpoint: 'https://bank.example/n',
          },
        ],
      },
      /^clients\[0\].backchannel_token_delivery_mode must be poll or ping.*FC-4/,
    ],
    [
      'a client secret',
      { clients: [{ ...bank, client_secret: 'x', token_endpoint_auth_method: 'client_secret_basic' }] },
      /^clients\[0\].token_endpoint_auth_method must be private_key_jwt, tls.*FI-1/,
    ],
    [
      'a public client',
      { clients: [{ client_id: 'app', token_endpoint_auth_method: 'none', redirect_uris: ['https://a.example'] }] },
      /^clients\[0\].token_endpoint_auth_method must be .*FI-1/,
    ],
    [
      'a client that does not sign',
      { clients: [{ ...bank, backchannel_authentication_request_signing_alg: undefined }] },
      /^clients\[0\].backchannel_authentication_request_signing_alg is missing.*FC-7/,
    ],
    [
      'requests signed by RS256',
      { clients: [{ ...bank, backchannel_authentication_request_signing_alg: 'RS256' }] },
      /^clients\[0\].backchannel_authentication_request_signing_alg must be/,
    ],
    [
      'assertions by RS256',
      { clients: [{ ...bank, token_endpoint_auth_signing_alg: 'RS256' }] },
      /^clients\[0\].token_endpoint_auth_signing_alg must be ES256 or PS256.*FC-15/,
    ],
    [
      'ID tokens by RS256 for one client',
      { clients: [{ ...bank, id_token_signed_response_alg: 'RS256' }] },
      /^clients\[0\].id_token_signed_response_alg must be ES256 or PS256.*FC-15/,
    ],
  ]
  for (const [name, input, expected] of cases) {
    it(name, () => {
      const problems = problemsIn({ ...production, ...proxied, profile: 'fapi-ciba', ...input })
      assert.equal(problems.length, 1, problems.join('\n'))
      assert.match(problems[0]!, expected)
    })
  }

  it('and takes what keeps to it', () => {
    const { requests, clients } = accepted({ ...production, ...proxied, profile: 'fapi-ciba', clients: [bank] })
    assert.deepEqual([requests.requireSigned, clients.length], [true, 1])
  })
})

describe('issuers of login_hint_tokens', () => {
  const jwks = { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y' }] }
  const found = { issuer: 'https://finder.example', jwks }
  const withIssuers = (...tokenIssuers: unknown[]) => ({ ...production, hints: { tokenIssuers } })

  it('are taken with keys or with their address', () => {
    const { hints } = accepted(
      withIssuers(found, { issuer: 'other', jwksUri: 'https://o.example/keys', subject: 'email' }),
    )
    assert.deepEqual(
      hints.tokenIssuers.map(({ issuer }) => issuer),
      ['https://finder.example', 'other'],
    )
    accepted({ ...withIssuers({ issuer: 'x', jwksUri: 'http://localhost:1/k' }), development: 'exposed' })
  })

  const wrong: [string, unknown[], RegExp][] = [
    ['without an issuer', [{ jwks }], /^hints\.tokenIssuers\[0\]\.issuer must be/],
    ['without keys', [{ issuer: 'x' }], /^hints\.tokenIssuers\[0\] must have either jwks or jwksUri/],
    ['with two kinds of keys', [{ ...found, jwksUri: 'https://o.example' }], /must have either jwks or jwksUri/],
    ['with a private key', [{ ...found, jwks: { keys: [{ kty: 'EC', d: 'hush' }] } }], /private member "d"/],
    ['with a shared secret', [{ ...found, algorithms: ['HS256'] }], /algorithms\[0\] must be one of "ES256"/],
    ['with no algorithm', [{ ...found, algorithms: [] }], /algorithms must be a list of at least one/],
    ['over plain http', [{ issuer: 'x', jwksUri: 'http://o.example' }], /jwksUri that starts with https:/],
    ['with a password in the address', [{ issuer: 'x', jwksUri: 'https://me:hush@o.example' }], /jwksUri must be/],
    ['twice', [found, found], /must name each issuer once/],
    ['with a slip', [{ ...found, audiense: 'x' }], /audiense is not a setting/],
  ]
  for (const [name, issuers, problem] of wrong) {
    it(`${name}: refused`, () => {
      const problems = problemsIn(withIssuers(...issuers))
      assert.equal(problems.length, 1, problems.join('\n'))
      assert.match(problems[0]!, problem)
      assert.doesNotMatch(problems[0]!, /hush/)
    })
  }
})

describe('clients', () => {
  const till = { client_id: 'till', client_secret: 's', backchannel_token_delivery_mode: 'PING' }
  const local = { ...till, backchannel_client_notification_endpoint: 'http://localhost:1/cb' }

  it('are completed', () => {
    const [client] = accepted({ development: true, clients: [local] }).clients
    assert.equal(client?.backchannel_token_delivery_mode, 'ping')
  })
  it('are complained about by their place', () => {
    assert.deepEqual(problemsIn({ ...production, clients: [till, local, { ...local, scope: 'x' }] }), [
      'clients[0].backchannel_client_notification_endpoint is missing; backchannel_token_delivery_mode ping needs it (RG-3)',
      'clients[1].backchannel_client_notification_endpoint must be an https address, without user name and fragment; it is 21 characters long',
      'clients[1].client_id is the same as clients[0].client_id',
      'clients[2].backchannel_client_notification_endpoint must be an https address, without user name and fragment; it is 21 characters long',
      'clients[2].client_id is the same as clients[0].client_id',
    ])
  })
  it('cannot have scopes the server does not have, unless the application adds its own', () => {
    const clients = [{ ...local, scope: 'openid account' }]
    assert.deepEqual(problemsIn({ development: true, clients }), [
      'clients[0].scope holds "account", which is not in tokens.scopes',
    ])
    accepted({ development: true, clients, tokens: { scopes: ['openid', 'account'] } })
    accepted({ development: true, clients, oidc: { scopes: ['account'] } })
  })
})

describe('users', () => {
  const complaintsAboutUsers = (users: unknown) => problemsIn({ ...production, users })

  it('get an id from their username or email', () => {
    const { users } = accepted({
      ...production,
      users: [{ username: 'a', email: 'a@x.org' }, { email: 'b@x.org' }, { id: 'u3', phone_number: '+4911' }],
    })
    assert.deepEqual(Array.isArray(users) && users.map(({ id }) => id), ['a', 'b@x.org', 'u3'])
  })

  const cases: [string, unknown, string[]][] = [
    ['no object', ['alice'], ['users[0] must be an object']],
    ['neither list nor hooks', 'alice', ['users must be a list of users or an object of hooks']],
    [
      'nothing to find one by',
      [{ id: 'a' }],
      ['users[0] needs a username, an email or a phone_number, so that it can be found'],
    ],
    [
      'a phone alone',
      [{ phone_number: '+4911' }],
      ['users[0].id is missing; only username and email can stand in for it'],
    ],
    [
      'a username that cannot be an id',
      [{ username: 'zoë' }],
      ['users[0].id is missing; the username or email that would stand in for it is not plain ASCII'],
    ],
    ['a bad email', [{ email: 'alice' }], ['users[0].email must be an email address; it is "alice"']],
    [
      'a bad locale',
      [{ username: 'a', locale: 'e' }],
      ['users[0].locale must be a language tag, like "en" or "de-AT"; it is "e"'],
    ],
    ['a slip', [{ username: 'a', pasword: 'hush' }], ['users[0].pasword is not a setting; did you mean password?']],
    [
      'a password that is no text',
      [{ username: 'a', password: 1234 }],
      ['users[0].password must be a text; it is a number'],
    ],
    [
      'twins by email',
      [{ email: 'a@x.org' }, { username: 'b', email: 'A@X.org' }],
      ['users[1].email is the same as users[0].id'],
    ],
    [
      'twins across kinds',
      [{ username: 'a@x.org' }, { id: 'b', email: 'a@x.org' }],
      ['users[1].email is the same as users[0].id'],
    ],
    [
      'hooks without find',
      { findByHint() {} },
      ['users.find is missing; users is a list of users or an object of hooks'],
    ],
    ['a hook that is no function', { findByHint() {}, find: 'x' }, ['users.find must be a function']],
    [
      'a misspelt hook',
      { findByHint() {}, find() {}, verifyPasword() {} },
      ['users.verifyPasword is not a hook; did you mean users.verifyPassword?'],
    ],
  ]
  for (const [name, users, expected] of cases) {
    it(name, () => assert.deepEqual(complaintsAboutUsers(users), expected))
  }

  it('may be an object of a class, which is kept as it is', () => {
    class Directory {
      async findByHint() {
        return null
      }
      async find() {
        return null
      }
    }
    const users = new Directory()
    assert.equal(accepted({ ...production, users }).users, users)
    assert.ok(!Object.isFrozen(users))
  })
})

it('everything is complained about at once', () => {
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

it('the demo is not for production', () => {
  assert.match(problemsIn(production, { demo: true }).join(), /^development must be true for the demo/)
})

it('no problem contains a secret', () => {
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

it('docs/configuration.md lists every setting, and no other', () => {
  const listed = documented().map(({ name }) => name)
  assert.deepEqual(listed.sort(), [...settingKinds.keys()].sort())
})

it('docs/configuration.md says what each is unless it is set', () => {
  const config = accepted(production)
  const inWords: Record<string, string> = {
    issuer: '`http://localhost:<port>` in development',
    secret: 'kept beside the database in development',
    'requests.requireSigned': 'by the profile',
    'userCodes.maxTriesPerUser': '4 × `maxTries`',
    'metrics.enabled': 'where somebody may read it',
    'shutdown.delay': '5; in development 0',
  }
  // It is another name of `requests.maxOpenPerUser`.
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

/** As the tables write it: `86 400`, but `3600`. */
function written(value: unknown): string {
  if (value === undefined) return '–'
  if (typeof value === 'number') return value < 10_000 ? String(value) : value.toLocaleString('fr').replace(/\s/g, ' ')
  if (Array.isArray(value)) return value.length === 0 ? '`[]`' : `\`${value.join(' ')}\``
  return `\`${typeof value === 'object' ? JSON.stringify(value) : value}\``
}
