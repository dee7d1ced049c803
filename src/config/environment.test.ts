import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { environmentName, readEnvironment } from './environment.ts'
import { settingKinds } from './schema.ts'

describe('names', () => {
  const cases: [string, string][] = [
    ['issuer', 'DOORBELL_ISSUER'],
    ['logLevel', 'DOORBELL_LOG_LEVEL'],
    ['requests.defaultExpiry', 'DOORBELL_REQUESTS_DEFAULT_EXPIRY'],
    ['requests.maxOpenPerUser', 'DOORBELL_REQUESTS_MAX_OPEN_PER_USER'],
    ['tokens.idTokenAlg', 'DOORBELL_TOKENS_ID_TOKEN_ALG'],
    ['login.client_id', 'DOORBELL_LOGIN_CLIENT_ID'],
    ['webPush.subject', 'DOORBELL_WEB_PUSH_SUBJECT'],
  ]
  for (const [path, name] of cases) test(name, () => assert.equal(environmentName(path), name))

  test('are all different', () => {
    assert.equal(new Set([...settingKinds.keys()].map(environmentName)).size, settingKinds.size)
  })
})

test('values are converted to the type of the setting', () => {
  const { input, problems, sources } = readEnvironment({
    DOORBELL_ISSUER: 'https://a.example',
    DOORBELL_PORT: '0',
    DOORBELL_DEVELOPMENT: '1',
    DOORBELL_NOTIFICATIONS_ALLOW_PRIVATE_NETWORKS: 'false',
    DOORBELL_REQUESTS_INTERVAL: '7',
    DOORBELL_REQUESTS_MAX_EXPIRY: '0x10',
    DOORBELL_TOKENS_SCOPES: 'openid, email',
    DOORBELL_HOST: '',
    PATH: '/bin',
  })
  assert.deepEqual(problems, [])
  assert.deepEqual(input, {
    issuer: 'https://a.example',
    port: 0,
    development: true,
    notifications: { allowPrivateNetworks: false },
    requests: { interval: 7, maxExpiry: '0x10' },
    tokens: { scopes: ['openid', 'email'] },
  })
  assert.equal(sources.get('requests.interval'), 'DOORBELL_REQUESTS_INTERVAL')
})

test('an unknown variable is a problem that does not contain its value', () => {
  const { problems } = readEnvironment({
    DOORBELL_REQUESTS_INTERVALL: 'hush',
    DOORBELL_SECRETE: 'hush',
    DOORBELL_ZEBRA: 'hush',
    DOORBELL_CLIENTS: 'hush',
  })
  assert.deepEqual(problems, [
    'DOORBELL_REQUESTS_INTERVALL is not a setting; did you mean DOORBELL_REQUESTS_INTERVAL?',
    'DOORBELL_SECRETE is not a setting; did you mean DOORBELL_SECRET?',
    'DOORBELL_ZEBRA is not a setting',
    'DOORBELL_CLIENTS cannot be an environment variable; set clients in the configuration file',
  ])
})

test('variables of Kubernetes, of tests and of the loader itself are ignored', () => {
  const { input, problems } = readEnvironment({
    DOORBELL_CONFIG: 'x.ts',
    DOORBELL_TEST_POSTGRES: 'x',
    DOORBELL_PORT: 'tcp://10.0.0.1:80',
    DOORBELL_SERVICE_HOST: '10.0.0.1',
    DOORBELL_SERVICE_PORT: '80',
    DOORBELL_SERVICE_PORT_HTTP: '80',
    DOORBELL_PORT_80_TCP: 'tcp://10.0.0.1:80',
    DOORBELL_PORT_80_TCP_ADDR: '10.0.0.1',
  })
  assert.deepEqual([input, problems], [{}, []])
})
