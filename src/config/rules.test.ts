import assert from 'node:assert/strict'
import { test } from 'node:test'
import { certify } from '../../test/support/certificates.ts'
import { noteOutcomes } from '../../test/support/rule-outcomes.ts'
import { newSecret } from '../platform/crypto.ts'
import { checkConfig } from './check.ts'
import { issuerPathProblem } from './issuer-path.ts'
import { rules } from './rules.ts'

const one = await certify({ subject: 'CN=one' })
const other = await certify({ subject: 'CN=other' })
const torn = one.cert.replace(/\n.{8}/, '\n')

const secret = newSecret()
const production = { issuer: 'https://id.example.com', secret }
const proxy = { trust: ['10.0.0.1'], clientCertificateHeader: 'x-client-cert' }
const fapi = { ...production, profile: 'fapi-ciba', proxy }
const till = { client_id: 'till', backchannel_token_delivery_mode: 'poll' }
const deviceWebhook = { url: 'https://h.example', secret: newSecret() }
const key = { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' }
const finder = { issuer: 'https://finder.example', jwks: { keys: [key] } }
const login = { issuer: 'https://op.example.com', client_id: 'doorbell', client_secret: 'x' }
const inside = { allowPrivateNetworks: true }

type Input = Record<string, unknown>
type Case = [problem: string, broken: Input, mended: Input, options?: { demo: true }]
const cases: Case[] = [
  ['issuer is missing; it must be', { secret }, production],
  [
    'issuer is missing; with port 0',
    { development: true, port: 0 },
    { development: true, port: 0, issuer: 'http://localhost:5000' },
  ],
  [
    'mutualTls.issuer must have a path that does not begin with /oauth',
    { ...production, proxy, mutualTls: { issuer: 'https://mtls.example.com/oauth' } },
    { ...production, proxy, mutualTls: { issuer: 'https://mtls.example.com/mtls' } },
  ],
  ['issuer must be written', { ...production, issuer: 'https://id.example.com/' }, production],
  [
    'development true is for this machine only',
    { ...production, development: true },
    { ...production, development: 'exposed' },
  ],
  ['secret is missing', { issuer: production.issuer }, production],
  [
    'clients must not contain the secret of demo-till',
    { ...production, clients: [{ ...till, client_secret: 'demo-till-secret-not-for-production' }] },
    { ...production, clients: [{ ...till, client_secret: 'another-secret' }] },
  ],
  [
    'oidc must not enable devInteractions',
    { ...production, oidc: { features: { devInteractions: {} } } },
    { ...production, oidc: { features: { devInteractions: { enabled: false } } } },
  ],
  ['development must be true for the demo', production, { development: true }, { demo: true }],
  [
    'requests.defaultExpiry must be at most requests.maxExpiry',
    { ...production, requests: { defaultExpiry: 61, maxExpiry: 60 } },
    { ...production, requests: { defaultExpiry: 60, maxExpiry: 60 } },
  ],
  [
    'requests.minExpiry must be at most requests.defaultExpiry',
    { ...production, requests: { minExpiry: 46, defaultExpiry: 45 } },
    { ...production, requests: { minExpiry: 45, defaultExpiry: 45 } },
  ],
  [
    'requests.longestInterval must be at least requests.interval',
    { ...production, requests: { longestInterval: 4 } },
    { ...production, requests: { longestInterval: 5 } },
  ],
  [
    'userCodes.maxTriesPerUser must be more than userCodes.maxTries',
    { ...production, userCodes: { maxTriesPerUser: 5, maxTries: 5 } },
    { ...production, userCodes: { maxTriesPerUser: 6, maxTries: 5 } },
  ],
  [
    'registration.mode must not be "open"',
    { ...production, registration: { mode: 'open' }, notifications: inside },
    { ...production, registration: { mode: 'token' }, notifications: inside },
  ],
  [
    'tokens.scopes must contain "openid"',
    { ...production, tokens: { scopes: ['profile'] } },
    { ...production, tokens: { scopes: ['profile', 'openid'] } },
  ],
  [
    'keys.rotateEvery must be more than keys.publishAhead',
    { ...production, keys: { rotateEvery: 3600, publishAhead: 3600 } },
    { ...production, keys: { rotateEvery: 3601, publishAhead: 3600 } },
  ],
  [
    'email.smtp is missing',
    { ...production, email: { from: 'a@b.c' } },
    { ...production, email: { smtp: 'smtp://h', from: 'a@b.c' } },
  ],
  [
    'email.from is missing',
    { ...production, email: { smtp: 'smtp://h' } },
    { ...production, email: { smtp: 'smtp://h', from: 'a@b.c' } },
  ],
  [
    'webPush.subject is missing',
    { ...production, webPush: {} },
    { ...production, webPush: { subject: 'mailto:a@b.c' } },
  ],
  [
    'deviceWebhook.url is missing',
    { ...production, deviceWebhook: { secret: deviceWebhook.secret } },
    { ...production, deviceWebhook },
  ],
  [
    'deviceWebhook.secret is missing',
    { ...production, deviceWebhook: { url: deviceWebhook.url } },
    { ...production, deviceWebhook },
  ],
  [
    'deviceWebhook.url must start with https://',
    { ...production, deviceWebhook: { ...deviceWebhook, url: 'http://h.example' } },
    { ...production, deviceWebhook },
  ],
  [
    'issuer must start with https://, in development too',
    { ...fapi, development: true, issuer: 'http://localhost:4000' },
    { ...fapi, development: true, issuer: 'https://localhost:4000' },
  ],
  [
    'tokens.idTokenAlg must be ES256 or PS256',
    { ...fapi, tokens: { idTokenAlg: 'RS256' } },
    { ...fapi, tokens: { idTokenAlg: 'PS256' } },
  ],
  [
    'requests.requireSigned must not be false',
    { ...fapi, requests: { requireSigned: false } },
    { ...fapi, requests: { requireSigned: true } },
  ],
  [
    'hints.tokenIssuers must sign with ES256 or PS256',
    { ...fapi, hints: { tokenIssuers: [{ ...finder, algorithms: ['ES256', 'RS256'] }] } },
    { ...fapi, hints: { tokenIssuers: [{ ...finder, algorithms: ['ES256'] }] } },
  ],
  ['profile "fapi-ciba" needs tls or proxy', { ...fapi, proxy: {} }, fapi],
  ['oidc must be empty', { ...fapi, oidc: { pkce: {} } }, { ...fapi, oidc: {} }],
  [
    'profile must be "core" for the demo',
    { ...fapi, development: 'exposed' },
    { ...fapi, development: 'exposed', profile: 'core' },
    { demo: true },
  ],
  ['proxy.clientCertificateHeader needs proxy.trust', { ...fapi, proxy: { ...proxy, trust: [] } }, fapi],
  [
    'proxy.clientCertificateChainHeader needs proxy.clientCertificateHeader',
    { ...production, proxy: { clientCertificateChainHeader: 'x-chain' } },
    { ...production, proxy: { ...proxy, clientCertificateChainHeader: 'x-chain' } },
  ],
  [
    'tls.key is missing',
    { ...production, tls: { cert: one.cert } },
    { ...production, tls: { key: one.key, cert: one.cert } },
  ],
  [
    'tls.cert is missing',
    { ...production, tls: { key: one.key } },
    { ...production, tls: { key: one.key, cert: one.cert } },
  ],
  [
    'tls.key and tls.cert do not match',
    { ...production, tls: { key: other.key, cert: one.cert } },
    { ...production, tls: { key: one.key, cert: one.cert } },
  ],
  [
    'email.ca must contain only valid PEM certificates',
    { ...production, email: { smtp: 'smtp://h', from: 'a@b.c', ca: '-----BEGIN CERTIFICATE-----\nAAAA' } },
    { ...production, email: { smtp: 'smtp://h', from: 'a@b.c', ca: one.cert } },
  ],
  [
    'notifications.ca must contain only valid PEM certificates',
    { ...production, notifications: { ca: one.cert + torn } },
    { ...production, notifications: { ca: one.cert + other.cert } },
  ],
  [
    'mutualTls.issuer is missing',
    { ...production, proxy, mutualTls: {} },
    { ...production, proxy, mutualTls: { issuer: 'https://mtls.example.com' } },
  ],
  [
    'mutualTls.issuer needs tls or proxy',
    { ...production, mutualTls: { issuer: 'https://mtls.example.com' } },
    { ...production, proxy, mutualTls: { issuer: 'https://mtls.example.com' } },
  ],
  [
    'limits.perUser.open and requests.maxOpenPerUser are two names',
    { ...production, limits: { perUser: { open: 3 } }, requests: { maxOpenPerUser: 4 } },
    { ...production, limits: { perUser: { open: 3 } }, requests: { maxOpenPerUser: 3 } },
  ],
  [
    'retention.history must be at least retention.requests',
    { ...production, retention: { history: 29, requests: 30 } },
    { ...production, retention: { history: 30, requests: 30 } },
  ],
  [
    'metrics.enabled needs metrics.token or metrics.from',
    { ...production, metrics: { enabled: true } },
    { ...production, metrics: { enabled: true, from: ['10.0.0.1'] } },
  ],
  [
    'hints.tokenIssuers must have a jwksUri that starts with https://',
    { ...production, hints: { tokenIssuers: [finder, { issuer: 'x', jwksUri: 'http://x.example' }] } },
    { ...production, hints: { tokenIssuers: [finder, { issuer: 'x', jwksUri: 'https://x.example' }] } },
  ],
  [
    'hints.tokenIssuers must name each issuer once',
    { ...production, hints: { tokenIssuers: [finder, finder] } },
    { ...production, hints: { tokenIssuers: [finder] } },
  ],
  [
    'login.issuer must be "self" or the https address',
    { ...production, login: { ...login, issuer: 'http://op.example.com' } },
    { ...production, login },
  ],
  [
    'login.client_id and login.client_secret are needed',
    { ...production, login: { issuer: login.issuer } },
    { ...production, login },
  ],
  [
    'login.createUsers must not be true without login.issuer',
    { ...production, login: { createUsers: true } },
    { ...production, login: { ...login, createUsers: true } },
  ],
  [
    'login.createUsers must not be true if users are hooks',
    { ...production, login: { ...login, createUsers: true }, users: { find: () => null, findByHint: () => null } },
    { ...production, login: { ...login, createUsers: true }, users: [] },
  ],
]

const notSeenBothWays = noteOutcomes(rules)
for (const [problem, broken, mended, options] of cases) {
  test(`${problem}: reported, and not for a correct configuration`, () => {
    const found = problemsIn(broken, options)
    assert.equal(found.length, 1, found.join('\n'))
    assert.ok(found[0]!.startsWith(problem), found[0])
    assert.deepEqual(problemsIn(mended, options), [])
  })
}

test('the path of an issuer has plain segments, and does not begin like a path of this server', () => {
  for (const path of ['', '/', '/ciba', '/tenants/bank-1', '/a_b/c.d/~e', '/x/oauth']) {
    assert.equal(issuerPathProblem(`https://id.example.com${path}`), undefined, path)
  }
  for (const path of ['/a;b=c', '/a%20b', '/a%2fb', '/a//b', '//a', '/.a', '/a/.b', '/a(b']) {
    assert.match(issuerPathProblem(`https://id.example.com${path}`)!, /path of letters/, path)
  }
  for (const path of ['/oauth', '/health/x', '/session']) {
    assert.match(issuerPathProblem(`https://id.example.com${path}`)!, /does not begin with/, path)
  }
  assert.match(problemsIn({ ...production, issuer: 'https://id.example.com/oauth' })[0]!, /^issuer must have a path/)
})

test('the cases above show each rule satisfied and violated', () => {
  assert.equal(cases.length, rules.length)
  assert.deepEqual(notSeenBothWays(), [])
})

function problemsIn(input: Input, options?: { demo: true }): string[] {
  const checked = checkConfig(input, options)
  return 'config' in checked ? [] : checked.problems
}
