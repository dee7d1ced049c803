/** Which mail addresses of another provider identify a user here: those that the provider has verified. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { UserHint, UserHooks } from '../../user/user.ts'
import { createAdmission } from './external-sign-in.ts'
import { createFirstSignIn } from './first-sign-in.ts'

const ana = { id: 'u1', email: 'ana@example.com' }

type Claims = Record<string, unknown>

const app = { client_id: 'consent-app' } as never
const audit = () => {}

function admissionTo(users: UserHooks, isDirectory: boolean) {
  const needs = { users, store: { add: async () => false }, createsUsers: false, usedIdsOf: () => [], app, audit }
  return createAdmission({
    users,
    findInDirectory: isDirectory ? createFirstSignIn({ ...needs, clock: { now: () => 0 } as never }) : undefined,
    app,
    audit,
    deviceToken: async () => ({ accessToken: 'token', expiresIn: 600 }),
    beginFor: async () => true,
  })
}

async function admits(claims: Claims, userInfo: Claims): Promise<boolean> {
  const users: UserHooks = {
    find: async (id) => (id === ana.id ? ana : null),
    findByHint: async ({ value }) => (value === ana.email ? ana : null),
  }
  const admit = admissionTo(users, true)
  return (await admit({ claims: { iss: 'https://op', sub: 's1', ...claims }, idToken: 'jwt', userInfo })) !== undefined
}

/** Resolves to the address that the hook of an application gets, and whether it is verified. */
async function givenToHook(claims: Claims, userInfo: Claims): Promise<[email: unknown, email_verified: unknown]> {
  const hints: UserHint[] = []
  const users: UserHooks = {
    find: async () => null,
    async findByHint(hint) {
      hints.push(hint)
      return null
    },
  }
  await admissionTo(users, false)({ claims: { iss: 'https://op', sub: 's1', ...claims }, idToken: 'jwt', userInfo })
  assert.equal(hints.length, 1)
  return [hints[0]!.claims?.email, hints[0]!.claims?.email_verified]
}

const { email } = ana

for (const [what, claims, userInfo, isAdmitted] of [
  ['verified in the ID token', { email, email_verified: true }, {}, true],
  ['verified in userinfo', {}, { email, email_verified: true }, true],
  ['verified in both', { email, email_verified: true }, { email, email_verified: true }, true],
  ['verified by the string "true"', { email, email_verified: 'true' }, {}, true],
  ['verified by the string "true" in userinfo', {}, { email, email_verified: 'true' }, true],
  ['not verified', { email }, {}, false],
  [
    'denied in the ID token, verified in userinfo',
    { email, email_verified: false },
    { email, email_verified: true },
    false,
  ],
  [
    'verified in the ID token, denied in userinfo',
    { email, email_verified: true },
    { email, email_verified: false },
    false,
  ],
  ['denied by the string "false"', { email, email_verified: 'false' }, { email, email_verified: true }, false],
  ['verified in another place than the address', { email_verified: true }, { email }, false],
  ['verified by another value', { email, email_verified: 1 }, { email, email_verified: 'yes' }, false],
] as const) {
  test(`an address that is ${what} ${isAdmitted ? 'signs in' : 'does not sign in'}`, async () => {
    assert.equal(await admits(claims, userInfo), isAdmitted)
  })
}

for (const [what, claims, userInfo, given] of [
  ['not stated', { email }, {}, [email, undefined]],
  ['stated as a string', { email, email_verified: 'true' }, {}, [email, true]],
  ['denied as a string', { email, email_verified: 'false' }, {}, [email, false]],
  ['denied in userinfo', { email, email_verified: true }, { email, email_verified: false }, [email, false]],
  ['stated about another address', { email: 'x@y.example' }, { email, email_verified: true }, [email, true]],
  ['stated without an address', { email }, { email_verified: true }, [email, false]],
] as const) {
  test(`if the verification is ${what}, the hook gets email_verified ${given[1]} with its address`, async () => {
    assert.deepEqual(await givenToHook(claims, userInfo), given)
  })
}
