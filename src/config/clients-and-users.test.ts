/** Tests of clients, users and issuers of hints in a configuration. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { accepted, problemsIn, production } from '../../test/support/configurations.ts'

describe('issuers of login_hint_tokens', () => {
  const jwks = { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y' }] }
  const found = { issuer: 'https://finder.example', jwks }
  const withIssuers = (...tokenIssuers: unknown[]) => ({ ...production, hints: { tokenIssuers } })

  test('are accepted with keys or with the address of their keys', () => {
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
    test(`${name}: refused`, () => {
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

  test('are completed with defaults', () => {
    const [client] = accepted({ development: true, clients: [local] }).clients
    assert.equal(client?.backchannel_token_delivery_mode, 'ping')
  })
  test('are named in problems by their position', () => {
    assert.deepEqual(problemsIn({ ...production, clients: [till, local, { ...local, scope: 'x' }] }), [
      'clients[0].backchannel_client_notification_endpoint is missing; backchannel_token_delivery_mode ping needs it (RG-3)',
      'clients[1].backchannel_client_notification_endpoint must be an https address, without user name and fragment; it begins with "http://"',
      'clients[1].client_id is the same as clients[0].client_id',
      'clients[2].backchannel_client_notification_endpoint must be an https address, without user name and fragment; it begins with "http://"',
      'clients[2].client_id is the same as clients[0].client_id',
    ])
  })
  test('cannot have scopes the server does not have, unless the application adds its own', () => {
    const clients = [{ ...local, scope: 'openid account' }]
    assert.deepEqual(problemsIn({ development: true, clients }), [
      'clients[0].scope contains "account", which is not in tokens.scopes',
    ])
    accepted({ development: true, clients, tokens: { scopes: ['openid', 'account'] } })
    accepted({ development: true, clients, oidc: { scopes: ['account'] } })
  })
})

describe('users', () => {
  const complaintsAboutUsers = (users: unknown) => problemsIn({ ...production, users })

  test('get an id from their username or email', () => {
    const { users } = accepted({
      ...production,
      users: [{ username: 'a', email: 'a@x.org' }, { email: 'b@x.org' }, { id: 'u3', phone_number: '+4911' }],
    })
    assert.deepEqual(Array.isArray(users) && users.map(({ id }) => id), ['a', 'b@x.org', 'u3'])
  })

  test('have phone numbers in every form, which are given to clients without tel: and with plain separators', () => {
    const forms: [string, string][] = [
      ['+4930901820', '+4930901820'],
      ['tel:+49-30-901820', '+49-30-901820'],
      ['TEL:+49(30)901820', '+49(30)901820'],
      ['(030) 90.18/20', '(030) 90.18/20'],
      ['+49\u00a030\u00a0901820', '+49 30 901820'],
      ['+49\u202f30\u2011901820', '+49 30-901820'],
      ['\u202a+49 30 901820\u202c', '+49 30 901820'],
      ['tel:+49\u2009(30)\u2212901820', '+49 (30)-901820'],
    ]
    for (const [given, number] of forms) {
      const { users } = accepted({ ...production, users: [{ id: 'a', phone_number: given }] })
      assert.deepEqual(Array.isArray(users) && users.map(({ phone_number }) => phone_number), [number], given)
      const twins = [
        { id: 'a', phone_number: given },
        { id: 'b', phone_number: `tel:${number}` },
      ]
      assert.deepEqual(complaintsAboutUsers(twins), ['users[1].phone_number is the same as users[0].phone_number'])
    }
  })

  test('have no phone numbers that are none', () => {
    const none = [
      '',
      '+',
      'tel:',
      'tel:ana',
      'tel:+49-30-901820;ext=7',
      'tel:tel:+4930',
      '+49+30',
      '++49',
      '()',
      '\u00a0',
    ]
    for (const phone_number of [...none, `+${'4'.repeat(65)}`, '+49\u0661', 7, null]) {
      const [problem, ...others] = complaintsAboutUsers([{ id: 'a', phone_number }])
      assert.match(String(problem), /^users\[0\]\.phone_number must be a phone number, like "\+491234567"/)
      assert.deepEqual(others, [])
    }
  })

  const cases: [string, unknown, string[]][] = [
    ['no object', ['alice'], ['users[0] must be an object']],
    ['neither list nor hooks', 'alice', ['users must be a list of users or an object of hooks']],
    [
      'nothing to find one by',
      [{ id: 'a' }],
      ['users[0] needs a username, an email or a phone_number, so that the user can be found'],
    ],
    ['a phone alone', [{ phone_number: '+4911' }], ['users[0].id is missing; only username and email can replace it']],
    [
      'a username that cannot be an id',
      [{ username: 'zoë' }],
      ['users[0].id is missing; the username or email that would replace it is not plain ASCII'],
    ],
    ['a bad email', [{ email: 'alice' }], ['users[0].email must be an email address; it is "alice"']],
    ...[
      ['NUL', 'a\u0000b', JSON.stringify('a\u0000b')],
      ['a bell', 'a\u0007b', JSON.stringify('a\u0007b')],
      ['a change of direction', 'a\u202eb', JSON.stringify('a\u202eb')],
      ['256 characters', 'a'.repeat(256), '256 characters long'],
      ['a space', 'a b', JSON.stringify('a b')],
    ].map(([what, username, shown]): [string, unknown, string[]] => [
      `a username with ${what}`,
      [{ id: 'a', username }],
      [`users[0].username must be 1 to 255 visible characters without spaces; it is ${shown}`],
    ]),
    [
      'a bad locale',
      [{ username: 'a', locale: 'e' }],
      ['users[0].locale must be a language tag, like "en" or "de-AT"; it is "e"'],
    ],
    ['a slip', [{ username: 'a', pasword: 'hush' }], ['users[0].pasword is not a setting; did you mean password?']],
    [
      'a password that is no text',
      [{ username: 'a', password: 1234 }],
      ['users[0].password must be a string that is not empty; it is a number'],
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
    test(name, () => assert.deepEqual(complaintsAboutUsers(users), expected))
  }

  test('may be an object of a class, which is kept as it is', () => {
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
