/** Tests of the values that each setting accepts. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { accepted, problemsIn, production, setting } from '../../test/support/configurations.ts'
import { newSecret } from '../platform/crypto.ts'

describe('limits', () => {
  test('of requests are off in development unless they are set; those of sign-ins are not', () => {
    const { perUser, perClientAndUser, pauseAfterDenial, signIn } = accepted({ development: true }).limits
    assert.deepEqual([perUser.perMinute, perClientAndUser.perMinute, pauseAfterDenial.first], [0, 0, 0])
    assert.equal(signIn.perName, 5)
    const set = { perUser: { perMinute: 3 }, pauseAfterDenial: { first: 7 } }
    const { limits } = accepted({ development: true, limits: set })
    assert.deepEqual([limits.perUser.perMinute, limits.pauseAfterDenial], [3, { first: 7, longest: 3600 }])
  })
  test('requests.maxOpenPerUser and limits.perUser.open are one limit', () => {
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
  test('cannot be read outside development until a reader is configured', () => {
    assert.equal(accepted({ development: true }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { token } }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { from: ['10.0.0.0/8'] } }).metrics.enabled, true)
    assert.equal(accepted({ ...production, metrics: { enabled: false, token } }).metrics.enabled, false)
    assert.equal(accepted({ ...production, metrics: false }).metrics.enabled, false)
    for (const metrics of [true, { enabled: true }]) {
      assert.match(problemsIn({ ...production, metrics }).join(), /^metrics.enabled needs metrics.token/)
    }
  })
  test('a token must be long, and no problem contains it', () => {
    for (const wrong of ['hush', `${token} hush`, 5]) {
      const problems = problemsIn({ ...production, metrics: { token: wrong } })
      assert.equal(problems.length, 1)
      assert.match(problems[0]!, /^metrics.token must be/)
      assert.doesNotMatch(problems[0]!, /hush/)
    }
  })
})

test('the audit hook must be a function', () => {
  const audit = () => {}
  assert.equal(accepted({ ...production, audit }).audit, audit)
  assert.match(problemsIn({ ...production, audit: 'log' }).join(), /^audit must be a function/)
})

describe('numbers at their boundaries', () => {
  const cases: [string, number, number][] = [
    ['port', 0, 65_535],
    ['requests.maxExpiry', 600, 1_209_600],
    ['requests.interval', 1, 3600],
    ['requests.longestInterval', 5, 3600],
    ['requests.maxBindingMessageLength', 1, 1024],
    ['requests.maxOpenPerUser', 1, 1000],
    ['limits.perUser.open', 1, 1000],
    ['limits.perUser.perMinute', 0, 1_000_000],
    ['limits.perClient.perMinute', 0, 1_000_000],
    ['limits.perSelfRegisteredClient.open', 0, 1_000_000],
    ['limits.perSelfRegisteredClient.perMinute', 0, 1_000_000],
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
    test(path, () => {
      for (const value of [least, most]) accepted(setting(path, value))
      for (const value of [least - 1, most + 1, 1.5, '5', Number.NaN, null, [], true, -1]) {
        assert.equal(problemsIn(setting(path, value)).length, 1, `${path} ${value}`)
      }
    })
  }
  test('are named in problems, with their range', () => {
    assert.deepEqual(problemsIn(setting('requests.interval', 'five')), [
      'requests.interval must be a whole number of seconds, at least 1 and at most 3600; it is "five"',
    ])
  })
  test('must satisfy the rules between settings', () => {
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
    assert.equal(accepted({ ...production, requests: { interval: 45 } }).requests.longestInterval, 45)
    assert.deepEqual(problemsIn({ ...production, requests: { interval: 45, longestInterval: 44 } }), [
      'requests.longestInterval must be at least requests.interval (45 seconds); it is 44',
    ])
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
    ['requests.longPoll', [0, 25, 26, 30, 60, 3600], [-1, 0.5, '30', null, Number.NaN]],
    ['requests.repeatTokens', [0, 1, 10, 60], [-1, 61, 0.5, '10', null]],
    ['requests.maxHeldPolls', [1, 10_000], [0, '10']],
    ['logLevel', ['debug', 'silent'], ['verbose', 3]],
    ['clients', [[]], [{}, 'x', [1], [null]]],
    ['oidc', [{ ttl: {} }], [[], 'x']],
    ['requests', [{}], [5, 'x', []]],
  ]
  for (const [path, right, wrong] of cases) {
    test(`${path}${right.length ? '' : ', refused'}`, () => {
      for (const value of right) accepted(setting(path, value))
      for (const value of wrong) {
        const problems = problemsIn(setting(path, value))
        assert.equal(problems.length, 1, `${JSON.stringify(value)}: ${problems.join('\n')}`)
        assert.ok(problems[0]!.startsWith(path), problems[0])
      }
    })
  }

  test('an issuer in development may be plain http; a problem gives its normalized form', () => {
    accepted({ development: 'exposed', issuer: 'http://192.168.1.5:4000' })
    assert.match(
      problemsIn({ development: true, issuer: 'http://LOCALHOST:4000/' }).join(),
      /"http:\/\/localhost:4000"/,
    )
  })
})
