/** A user adds and removes a passkey again and again: the number of notifications is limited. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mostAttempts } from '../../src/authentication-device/api/passkey-endpoint.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { engines } from '../support/engines.ts'
import { bearerOf } from '../support/phone-app.ts'
import { ben, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { added, creationOptions, passkeys, signedIn, signedInWith } from './passkeys.ts'

async function tryToAdd(stage: Stage, bearer: string) {
  const passkey = createAuthenticator(stage.url).create(await creationOptions(stage, bearer))
  return stage.post(passkeys, { passkey }, bearer)
}

for (const engine of engines) {
  test(`each user has a number of additions in an hour, on ${engine.name}`, async (t) => {
    const { stage, bearer } = await signedIn(t, { engine })
    const authenticator = await added(stage, bearer)
    const strong = await signedInWith(stage, authenticator)
    let refused = 0
    for (let round = 0; round < mostAttempts + 10; round++) {
      const { status, body, headers } = await tryToAdd(stage, strong)
      if (status === 201)
        assert.equal((await stage.post(`${passkeys}/remove`, { id: String(body.id) }, strong)).status, 200)
      else {
        assert.deepEqual([status, body.too_often, headers.get('retry-after')], [429, true, '3600'])
        refused += 1
      }
    }
    assert.equal(refused, 11)
    const sent = await rowsOf(stage, `select count(*) as number from notifications where kind like 'account_%'`)
    assert.equal(Number(sent[0]!.number), mostAttempts)
    assert.equal((await tryToAdd(stage, await bearerOf(stage, ben))).status, 201, 'another user')
  })
}
