import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { noteOutcomes } from '../../../test/support/rule-outcomes.ts'
import { createDetailTypes } from '../../authorization-details/detail-types.ts'
import type { Client } from '../../client/client.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode } from '../../client/metadata/client-metadata.ts'
import { createVault } from '../../platform/crypto.ts'
import type { OAuthError } from '../../platform/oauth-error.ts'
import { accept, acknowledge } from './accept.ts'
import { type Asked, readParameters } from './parameters.ts'
import { type RequestPolicy, type RequestRule, refuseUnlessAllowed, rules } from './rules.ts'

const notSeenBothWays = noteOutcomes(Object.values<RequestRule>(rules))

const policy = {
  scopes: ['openid', 'email'],
  maxBindingMessageLength: 10,
  mailed: true,
  requireSigned: false,
  requireContext: false,
  requireNumber: false,
  details: createDetailTypes({
    tea: { schema: z.strictObject({ cups: z.number().exactOptional() }), describe: () => 'tea' },
  }),
  resources: { 'https://tea.example': {} },
  claims: new Map([['email', ['email']]]),
}
const strict = { ...policy, requireSigned: true, requireContext: true }

function clientOf(deliveryMode: DeliveryMode): Client {
  const metadata = { client_id: 'c', grant_types: [CIBA_GRANT] } as ClientMetadata
  const notificationEndpoint = deliveryMode === 'poll' ? undefined : 'https://c.example/n'
  return { id: 'c', metadata, deliveryMode, notificationEndpoint, secretHash: undefined, secretSealed: undefined }
}

function asked(parameters: Record<string, string>): Asked {
  return readParameters(new Map(Object.entries(parameters)))
}

const good = { scope: 'openid', login_hint: 'ana' }

describe('the rules apply in order: the first one that is violated gives the error (CIBA §7.2)', () => {
  // The rules from the last to the first. Each request has the fault of its own line and the faults of all lines above.
  const faults: [rule: keyof typeof rules, fault: Record<string, string>][] = [
    ['resourcesAreKnown', { resource: 'https://coffee.example' }],
    ['resourcesAreAddresses', { resource: '/tea' }],
    ['detailsFitTheirTypes', { authorization_details: '[{"type":"tea","sugar":1}]' }],
    ['detailTypesAreAllowed', { authorization_details: '[{"type":"coffee"}]' }],
    ['detailsAreAList', { authorization_details: '{}' }],
    ['requestContextIsAnObject', { request_context: '[]' }],
    ['requestedExpiryIsPositive', { requested_expiry: '0' }],
    ['bindingMessageCanBeShown', { binding_message: 'a\nb' }],
    ['bindingMessageFits', { binding_message: 'a\nb'.padEnd(11) }],
    ['claimValuesAreTexts', { claims: '{"id_token":{"acr":{"value":{"toString":1}}}}' }],
    ['claimsAreObjects', { claims: '[]' }],
    ['acrValuesAreAList', { acr_values: ' ' }],
    ['tokenFitsTheHeader', { client_notification_token: '!' }],
    ['exactlyOneHint', { id_token_hint: 'x' }],
    ['scopesAreAllowed', { scope: 'openid ciba:decide' }],
    ['scopeIncludesOpenid', { scope: 'email' }],
    ['scopeIsWellFormed', { scope: 'openid  email' }],
  ]
  let parameters: Record<string, string> = { ...good, client_notification_token: 'token' }
  for (const [rule, fault] of faults) {
    parameters = { ...parameters, ...fault }
    const form = { ...parameters }
    test(`${rule}: ${rules[rule].error}`, () => {
      assert.throws(
        () => refuseUnlessAllowed(asked(form), clientOf('ping'), policy),
        ({ code, detail }: OAuthError) => code === rules[rule].error && detail === `${rule} (c)`,
      )
    })
  }

  test('a request without faults is accepted', () => {
    refuseUnlessAllowed(asked(good), clientOf('poll'), policy)
    refuseUnlessAllowed(asked({ ...good, client_notification_token: 'x' }), clientOf('push'), policy)
  })

  test('a CIBA client does not get ciba:decide even if the server has that scope (M1)', () => {
    const wide = { ...policy, scopes: ['openid', 'ciba:decide'] }
    assert.throws(() => refuseUnlessAllowed(asked({ ...good, scope: 'openid ciba:decide' }), clientOf('poll'), wide), {
      code: 'invalid_scope',
    })
  })
})

describe('a client registered for some kinds of hints (M30)', () => {
  const careful = clientOf('poll')
  careful.metadata.backchannel_allowed_hints = ['id_token_hint']
  test('may use these kinds and no other', () => {
    refuseUnlessAllowed(asked({ scope: 'openid', id_token_hint: 'x' }), careful, policy)
    assert.throws(
      () => refuseUnlessAllowed(asked(good), careful, policy),
      ({ code, detail }: OAuthError) => code === 'invalid_request' && detail === 'hintIsAllowed (c)',
    )
  })
})

const refusedFor = (rule: keyof typeof rules) => (error: OAuthError) =>
  error.code === rules[rule].error && error.detail === `${rule} (c)`

describe('a request with exactly one fault', () => {
  const numbered = { ...policy, requireNumber: true }
  const cases: [rule: keyof typeof rules, mode: DeliveryMode, fault: Record<string, string>, policy: RequestPolicy][] =
    [
      ['scopeIsThere', 'poll', { scope: '' }, policy],
      ['tokenWhenWeCallBack', 'ping', {}, policy],
      ['bindingMessageIsNoLink', 'poll', { binding_message: 'shop.com' }, policy],
      ['numberCanBeMatched', 'poll', { binding_message: 'tea' }, numbered],
    ]
  for (const [rule, mode, fault, allowed] of cases) {
    test(`is refused by ${rule}: ${rules[rule].error}`, () => {
      const form = Object.fromEntries(Object.entries({ ...good, ...fault }).filter(([, value]) => value !== ''))
      assert.throws(() => refuseUnlessAllowed(asked(form), clientOf(mode), allowed), refusedFor(rule))
    })
  }
  test('is accepted when the fault is corrected', () => {
    refuseUnlessAllowed(asked({ ...good, binding_message: 'tea' }), clientOf('poll'), policy)
    refuseUnlessAllowed(asked({ ...good, binding_message: '42' }), clientOf('poll'), numbered)
  })
})

describe('requirements of a security profile', () => {
  test('a signed request (FC-7)', () => {
    assert.throws(() => refuseUnlessAllowed(asked(good), clientOf('poll'), strict), refusedFor('signedWhereItMustBe'))
  })

  test('a unique context: a binding message or details (FC-3, RA-11)', () => {
    const signed = { ...asked(good), signedRequest: 'x' }
    assert.throws(() => refuseUnlessAllowed(signed, clientOf('poll'), strict), refusedFor('contextIsUnique'))
    refuseUnlessAllowed({ ...signed, bindingMessage: '1234' }, clientOf('poll'), strict)
    refuseUnlessAllowed({ ...signed, authorizationDetails: [{ type: 'tea', cups: 2 }] }, clientOf('poll'), strict)
  })

  test('a client that registered an algorithm must sign, without a profile too (RG-7)', () => {
    const client = clientOf('poll')
    client.metadata.backchannel_authentication_request_signing_alg = 'ES256'
    assert.throws(() => refuseUnlessAllowed(asked(good), client, policy), refusedFor('signedWhereItMustBe'))
  })
})

describe('the rules', () => {
  test('have each been met and violated by the tests above', () => {
    assert.deepEqual(notSeenBothWays(), [])
  })

  test('read only the members of a request that they declare as settings', () => {
    const request = { ...asked({ ...good, client_notification_token: 'token' }), signedRequest: 'x' }
    for (const [name, { settings, requires }] of Object.entries<RequestRule>(rules)) {
      const read = new Set<string>()
      const watched = new Proxy(request, {
        get: (target, member: keyof Asked) => {
          read.add(member)
          return target[member]
        },
      })
      requires(watched, { client: clientOf('ping'), policy: strict })
      assert.deepEqual(
        [...read].filter((member) => !settings.some((setting) => setting === member)),
        [],
        name,
      )
    }
  })
})

describe('the parameters', () => {
  test('are read by name, and unknown ones are ignored (VL-7)', () => {
    assert.deepEqual(asked({ user_code: 'x', foo: 'x' }), {
      scope: undefined,
      hints: [],
      notificationToken: undefined,
      acrValues: undefined,
      claims: undefined,
      bindingMessage: undefined,
      requestedExpiry: undefined,
      authorizationDetails: undefined,
      resources: [],
      requestContext: undefined,
      userCode: 'x',
      signedRequest: undefined,
    })
    const all = asked({ login_hint_token: '3', login_hint: '1', id_token_hint: '2' }).hints
    assert.deepEqual(
      all.map(({ kind, value }) => `${kind} ${value}`),
      ['login_hint 1', 'id_token_hint 2', 'login_hint_token 3'],
    )
  })
})

describe('a request that is accepted', () => {
  const vault = createVault(Buffer.alloc(32, 1).toString('base64url'))
  const limits = { ...policy, defaultExpiry: 600, maxExpiry: 900, minExpiry: 30, interval: 7 }
  const user = { id: 'user-ana' }
  const made = (mode: DeliveryMode, more: Record<string, string> = {}) =>
    accept(
      asked({ ...good, client_notification_token: 'bearer', ...more }),
      clientOf(mode),
      user,
      {},
      1_000,
      limits,
      vault,
    )

  for (const [requested_expiry, seconds] of [
    ['', 600],
    ['1', 30],
    ['29', 30],
    ['30', 30],
    ['31', 31],
    ['900', 900],
    ['901', 900],
    ['9007199254740991', 900],
  ] as const) {
    test(`requested_expiry "${requested_expiry}": ${seconds} s from receipt (RQ-7, AK-5, M43)`, () => {
      const accepted = made('poll', requested_expiry === '' ? {} : { requested_expiry })
      assert.equal(accepted.request.expiresAt, 1_000 + seconds * 1000)
      assert.equal(acknowledge(accepted).expires_in, seconds)
    })
  }

  for (const [mode, interval, sealed] of [
    ['poll', 7, false],
    ['ping', 7, true],
    ['push', undefined, true],
  ] as const) {
    test(`${mode}: interval ${interval}, call back ${sealed ? 'encrypted' : 'not stored'} (AK-4, M39)`, () => {
      const accepted = made(mode)
      assert.equal(acknowledge(accepted).interval, interval)
      assert.equal(accepted.request.callBackSealed !== undefined, sealed)
      assert.match(accepted.authReqId, /^[A-Za-z0-9_-]{43}$/)
      assert.ok(!JSON.stringify(accepted.request).includes(accepted.authReqId))
      assert.ok(!JSON.stringify(accepted.request).includes('bearer'))
    })
  }

  test('has each scope once, in the requested order', () => {
    assert.equal(made('poll', { scope: 'email openid email' }).request.scope, 'email openid')
  })
})
