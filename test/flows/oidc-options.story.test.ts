/** Options that an operator gives to oidc-provider change only the values that they name. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { bearerOf } from '../support/phone-app.ts'
import { ana, openStage } from '../support/stage.ts'

/** Begins a sign-in. Returns the cookies that are set, by their names. */
async function cookiesOf(stage: Awaited<ReturnType<typeof openStage>>): Promise<Map<string, string>> {
  const query = new URLSearchParams({
    client_id: 'phone-app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
  })
  const { headers } = await fetch(`${stage.url}/oauth/authorize?${query}`, { redirect: 'manual' })
  return new Map(headers.getSetCookie().map((line) => [line.split('=')[0]!, line]))
}

describe('options of oidc-provider', () => {
  test('the lifetime of one kind of token leaves those of the others', async (t) => {
    const stage = await openStage(t, {
      config: { tokens: { accessTtl: 77 }, oidc: { ttl: { AuthorizationCode: 30 } } },
    })
    const { body } = await stage.ring('kiosk')
    await stage.doorbell.requests.approve(await stage.newestRequest(), ana.id)
    assert.equal((await stage.poll('kiosk', body.auth_req_id)).body.expires_in, 77)
    // The sign-in works: its code can be redeemed, and its access token is valid.
    assert.ok(await bearerOf(stage))
  })

  test('an option of one kind of cookie leaves names, keys and the other options', async (t) => {
    const usual = await cookiesOf(await openStage(t))
    const stage = await openStage(t, { config: { oidc: { cookies: { short: { sameSite: 'strict' } } } } })
    const changed = await cookiesOf(stage)
    assert.deepEqual([...changed.keys()], [...usual.keys()])
    assert.ok(
      [...changed.keys()].some((name) => name.endsWith('.sig')),
      'they are signed',
    )
    for (const [name, line] of changed) {
      assert.match(line, /; samesite=strict/i, name)
      assert.match(line, /; httponly/i, name)
    }
  })

  test('another name of one cookie leaves the names of the others', async (t) => {
    const usual = await cookiesOf(await openStage(t))
    const stage = await openStage(t, { config: { oidc: { cookies: { names: { interaction: 'begun' } } } } })
    const changed = await cookiesOf(stage)
    assert.ok(changed.has('begun') && changed.has('begun.sig'))
    const others = [...usual.keys()].filter((name) => !changed.has(name))
    assert.equal(others.length, 2, 'only one cookie and its signature have another name')
    assert.ok(changed.size > 2, 'there are other cookies')
  })
})
