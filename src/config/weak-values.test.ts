import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { newSecret } from '../platform/crypto.ts'
import { checkConfig } from './check.ts'
import type { CheckedConfig } from './config.ts'
import { isGuessable, weakValues } from './weak-values.ts'

const random = newSecret()

function configured(settings: object): CheckedConfig & { secret: string } {
  const checked = checkConfig({ issuer: 'https://id.example.com', secret: random, ...settings })
  assert.ok('config' in checked, JSON.stringify(checked))
  return checked.config as CheckedConfig & { secret: string }
}

const named = (settings: object) => weakValues(configured(settings)).map(({ setting }) => setting)

test('a random value is not guessable, in any encoding', () => {
  for (let turn = 0; turn < 2000; turn++) {
    const bytes = randomBytes(32)
    for (const encoding of ['base64url', 'hex'] as const) {
      assert.equal(isGuessable(bytes.toString(encoding)), false, bytes.toString(encoding))
    }
  }
})

test('a value that repeats itself or follows a pattern is guessable', () => {
  const patterns = [
    's'.repeat(43),
    'ab'.repeat(22),
    'doorbell-secret-doorbell-secret-doorbell-secret',
    'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ',
    '0123456789012345678901234567890123456789012',
    '0'.repeat(64),
    'deadbeef'.repeat(8),
    'change-me-change-me-change-me-change-me-change',
  ]
  for (const pattern of patterns) assert.equal(isGuessable(pattern), true, pattern)
})

test('a value made of words or rows of the keyboard is guessable', () => {
  const oneCase = [
    'my-super-secret-key-for-doorbell-production-2026',
    'replace-this-with-a-long-random-string-1234567890',
    'qwertyuiopasdfghjklzxcvbnm123456',
    'THIS-IS-THE-LONG-SECRET-OF-THE-ACME-BANK-2026',
    'whsec_our-own-long-webhook-key-of-the-acme-bank',
  ]
  const bothCases = [
    'My-Super-Secret-Key-For-Doorbell-Production-2026',
    'A-Password-Of-The-Acme-Bank-For-Its-Users-2026',
    'Replace-This-With-A-Long-Random-String-1234567890',
    'Zx9-QwertyUiop-Asdf-Kiosk-Bank-2026-Server-Number',
  ]
  for (const text of [...oneCase, ...bothCases]) assert.equal(isGuessable(text), true, text)
})

test('hexadecimal text is judged by its digits, also after a prefix', () => {
  const digits = '3f9a1c7e52d80b64e1957c2fa8036d4b9e27f150c8b3a6d4715e0928fc4da6b3'
  for (const text of [digits, digits.toUpperCase(), `whsec_${digits}`]) assert.equal(isGuessable(text), false, text)
  for (const text of ['deadbeef'.repeat(8), `whsec_${'0123456789'.repeat(4)}`, `whsec_${'2026'.repeat(12)}`]) {
    assert.equal(isGuessable(text), true, text)
  }
})

test('all weak values are reported at once, and no message contains them', () => {
  const client = { grant_types: ['urn:openid:params:grant-type:ciba'], backchannel_token_delivery_mode: 'poll' }
  const weak = weakValues(
    configured({
      secret: 's'.repeat(43),
      metrics: { token: 'm'.repeat(32) },
      deviceWebhook: { url: 'https://bank.example/doorbell', secret: 'webhook-webhook-webhook-webhook-' },
      clients: [
        { ...client, client_id: 'till', client_secret: 'q' },
        { ...client, client_id: 'booth', client_secret: 'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz' },
        { ...client, client_id: 'shop', client_secret: newSecret() },
      ],
      users: [
        { username: 'ana', password: 'w' },
        { username: 'bernadette', password: 'Bernadette' },
        { username: 'cleo', email: 'cleo@example.com', password: newSecret() },
        { username: 'dora', user_code: '1234' },
        { username: 'emil', user_code: '4711' },
      ],
    }),
  )
  assert.deepEqual(
    weak.map(({ setting, isKey }) => [setting, isKey]),
    [
      ['secret', true],
      ['metrics.token', true],
      ['deviceWebhook.secret', true],
      ['client_secret of till', false],
      ['client_secret of booth', false],
      ['password of ana', false],
      ['password of bernadette', false],
      ['user_code of dora', false],
    ],
  )
  assert.doesNotMatch(JSON.stringify(weak), /sssss|mmmm|webhook-webhook|zzzz|Bernadette|1234/)
})

test('what the server presents to other servers, and what oidc-provider gets, is reported like the other values', () => {
  const postgres = (login: string) => `postgres://${login}@db.example/doorbell`
  const smtp = (login: string) => ({ email: { smtp: `smtp://${login}@mail.example`, from: 'doorbell@bank.example' } })
  const login = { issuer: 'https://bank.example', client_id: 'house' }
  for (const [settings, expected] of [
    [{ login: { ...login, client_secret: 'q' } }, ['login.client_secret']],
    [{ login: { ...login, client_secret: 'ababababababababababababababab' } }, ['login.client_secret']],
    [{ login: { ...login, client_secret: 'demo-till-secret-not-for-production' } }, ['login.client_secret']],
    [{ login: { ...login, client_secret: newSecret() } }, []],
    [{ database: postgres('doorbell:doorbell') }, ['password of database']],
    [{ database: postgres('doorbell:Password%31') }, ['password of database']],
    [{ database: 'postgres:///doorbell?host=db.example&user=bell&password=q' }, ['password of database']],
    [{ database: postgres(`doorbell:${newSecret()}`) }, []],
    [{ database: postgres('doorbell') }, []],
    [smtp('doorbell:doorbell'), ['password of email.smtp']],
    [smtp('mailer%40bank.example:MAILER%40bank.example'), ['password of email.smtp']],
    [smtp(`doorbell:${newSecret()}`), []],
    [
      { oidc: { cookies: { keys: ['q', newSecret(), Buffer.alloc(32, 7)] } } },
      ['oidc.cookies.keys[0]', 'oidc.cookies.keys[2]'],
    ],
    [{ oidc: { cookies: { keys: 'q' } } }, []],
    [{ oidc: { clients: [{ client_id: 'till', client_secret: 'q' }] } }, ['client_secret of till']],
  ] as [object, string[]][]) {
    assert.deepEqual(named(settings), expected, JSON.stringify(settings))
  }
})

test('nothing is reported in development, nor about users of the application', () => {
  const users = { find: () => null, findByHint: () => null }
  assert.deepEqual(named({ users }), [])
  assert.deepEqual(named({ development: true, issuer: 'http://localhost:4000', secret: 's'.repeat(43) }), [])
})

test('in production the secrets of the demo and devInteractions are refused', () => {
  const refused = (settings: object) => {
    const checked = checkConfig({ issuer: 'https://id.example.com', secret: random, ...settings })
    return 'problems' in checked ? checked.problems.join('\n') : ''
  }
  const client = { client_id: 'till', grant_types: ['urn:openid:params:grant-type:ciba'] }
  for (const demo of ['demo-till', 'demo-shop', 'demo-bank', 'demo-device']) {
    const client_secret = `${demo}-secret-not-for-production`
    const clients = [{ ...client, backchannel_token_delivery_mode: 'poll', client_secret }]
    assert.match(refused({ clients }), new RegExp(`^clients must not contain the secret of ${demo}`))
    assert.equal(refused({ clients, development: true, issuer: 'http://localhost:4000' }), '')
  }
  for (const devInteractions of [{ enabled: true }, {}]) {
    const oidc = { features: { devInteractions } }
    assert.match(refused({ oidc }), /^oidc must not enable devInteractions/)
  }
  assert.equal(refused({ oidc: { features: { devInteractions: { enabled: false } } } }), '')
})
