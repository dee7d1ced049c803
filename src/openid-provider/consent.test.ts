import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KoaContextWithOIDC } from 'oidc-provider'
import { loadGrant } from './consent.ts'

/** Returns the context that oidc-provider has when it looks for the grant of a signed-in user. */
const contextWith = (result: unknown, ofSession?: string) =>
  ({
    oidc: {
      session: { accountId: 'ana', grantIdFor: () => ofSession },
      client: { clientId: 'shop' },
      provider: { Grant: { find: async (jti: string) => ({ jti, accountId: 'ana' }) } },
      params: {},
      result,
    },
  }) as unknown as KoaContextWithOIDC

test('a grant that the pages of the operator have stored, and named in their result, is the grant', async () => {
  for (const ofSession of [undefined, 'of the session']) {
    const grant = await loadGrant(contextWith({ consent: { grantId: 'new' } }, ofSession), 'consent-app')
    assert.equal(grant?.jti, 'new')
  }
})

test('without a consent, the grant is that of the session', async () => {
  for (const result of [undefined, {}, { login: { accountId: 'ana' } }]) {
    assert.equal((await loadGrant(contextWith(result, 'of the session'), 'consent-app'))?.jti, 'of the session')
    assert.equal(await loadGrant(contextWith(result), 'consent-app'), undefined)
  }
})

test('a consent of another user adds nothing, and is forgotten, so that this user is asked', async () => {
  const result = { consent: { accountId: 'ben', scopes: ['email'], claims: [] } }
  assert.deepEqual(await loadGrant(contextWith(result, 'g'), 'consent-app'), { jti: 'g', accountId: 'ana' })
  assert.deepEqual(result, {})
})
