/** Flows that read single rows of growing tables, and that other flows do not contain. */
import assert from 'node:assert/strict'
import { createSignedRequestStore } from '../../src/ciba/backchannel-authentication/signed-request-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { added, signedInWith } from '../flows/passkeys.ts'
import { calls, poll } from '../flows/registration-calls.ts'
import { bearerOf } from '../support/phone-app.ts'
import { vault } from '../support/rows.ts'
import { ben, type Stage } from '../support/stage.ts'
import type { collectStatements } from '../support/statements.ts'

/** The statements of these flows, with the columns by which they find a row. */
export const ofRareFlows = [
  /^select \* from passkeys where credential_id = \$1$/,
  /^update passkeys set counter = .* where id = \$1/,
  /^select paused_until from sign_in_attempts where subject_hash = \$1$/,
  /^select id from clients where id = \$1 and registration_token_hash = \$2$/,
  /^update clients set metadata = .* where id = \$1 and registration_token_hash = \$2/,
  /^select sealed from signed_requests where request_id = \$1$/,
]

/** Plays the flows. The server must be one of `openWithAllFeatures`. */
export async function playRareFlows(stage: Stage, open: ReturnType<typeof collectStatements>['openDatabase']) {
  // Ana already has a passkey, so she would have to sign in with it before she adds another passkey.
  const bearer = await bearerOf(stage, ben)
  // oidc-provider uses the real clock. By the clock of the stage, the sign-in would be in the future.
  stage.clock.advance(Math.max(0, Date.now() - stage.clock.now()))
  await signedInWith(stage, await added(stage, bearer))
  await changeRegistration(stage)
  await setCodesUntilPaused(stage, bearer)
  const database = await open(stage.database, { log: createLog('silent'), clock: systemClock })
  const signed = createSignedRequestStore(database, vault)
  const keeping = signed.keep('its request', 'its.signed.request', stage.clock.now())
  await database.step({ sql: 'select 1 as one', values: [] }, { also: [keeping] })
  assert.equal(await signed.find('its request'), 'its.signed.request')
  await database.close()
}

/** A client registers itself, and reads and replaces its registration (RFC 7592). */
async function changeRegistration(stage: Stage): Promise<void> {
  const { send, register } = calls(stage)
  const { status, body, text } = await register(poll)
  assert.equal(status, 201, text)
  const [url, token] = [String(body.registration_client_uri), String(body.registration_access_token)]
  assert.equal((await send('GET', url, undefined, token)).status, 200)
  assert.equal((await send('PUT', url, { client_id: body.client_id, ...poll }, token)).status, 200)
}

/** Sets new user codes until they are refused for some time. Each new code counts as a guess at the password. */
async function setCodesUntilPaused(stage: Stage, bearer: string): Promise<void> {
  for (let number = 0; number < 20; number++) {
    const { status, text } = await stage.post('/backchannel/user-code', { user_code: `pelican-${number}` }, bearer)
    if (status === 429) return
    assert.equal(status, 200, text)
  }
  assert.fail('never paused')
}
