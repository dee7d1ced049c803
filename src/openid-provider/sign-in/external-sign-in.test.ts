/** Which mail addresses of another provider identify a user here: those that the provider has verified. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdmission } from './external-sign-in.ts'

const ana = { id: 'u1', email: 'ana@example.com' }

type Claims = Record<string, unknown>

async function admits(claims: Claims, userInfo: Claims): Promise<boolean> {
  const admit = createAdmission({
    users: { find: async () => ana, findByHint: async ({ value }) => (value === ana.email ? ana : null) },
    usersAreHooks: false,
    app: { client_id: 'consent-app' } as never,
    audit: () => {},
    deviceToken: async () => ({ accessToken: 'token', expiresIn: 600 }),
    beginFor: async () => true,
  })
  return (await admit({ claims: { sub: 's1', ...claims }, idToken: 'jwt', userInfo })) !== undefined
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
