/** Secrets stay where they belong: not in the log, not in the database (M12, M39, NE-4, RQ-11, SM-1). */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { signIn } from '../cast/phone-app.ts'
import { ana, newNotificationToken, openStage, secrets } from '../cast/stage.ts'
import { contentsOf } from '../cast/tables.ts'

test('M12, M39: after every flow, good and bad, no secret is in the log or in the database', async (t) => {
  const northbank = await openNotificationEndpoint(t)
  const till = await openNotificationEndpoint(t)
  northbank.behaves(500)
  const stage = await openStage(t, { northbank: northbank.url, till: till.url })
  const used: [name: string, secret: string][] = Object.entries(secrets)
  used.push(["Ana's password", ana.password])

  const signedIn = await signIn(stage)
  used.push(['her access token', signedIn.access_token], ['her ID token', signedIn.id_token!])
  const authorization = `Bearer ${signedIn.access_token}`
  await stage.get('/backchannel/authinfo', { authorization })

  for (const as of ['kiosk', 'northbank', 'till'] as const) {
    for (const status of ['approved', 'denied'] as const) {
      const token = newNotificationToken()
      const rung = await stage.ring(as, { client_notification_token: token, scope: 'openid offline_access' })
      used.push(['a notification token', token], ['an auth_req_id', String(rung.body.auth_req_id)])
      const form = { request_id: await stage.newestRequest(), status }
      await stage.post('/backchannel/complete', form, authorization)
      const { body } = await stage.poll(as, rung.body.auth_req_id)
      for (const name of ['access_token', 'refresh_token', 'id_token']) {
        if (body[name] !== undefined) used.push([name, String(body[name])])
      }
    }
  }
  await stage.doorbell.idle()
  for (const { body } of till.heard) {
    for (const name of ['access_token', 'refresh_token', 'id_token']) {
      if (body[name] !== undefined) used.push([`a pushed ${name}`, String(body[name])])
    }
  }
  const wrong = newNotificationToken()
  used.push(['what somebody got wrong', wrong])
  await stage.ring('kiosk', { login_hint: wrong, id_token_hint: wrong })
  await stage.ring('kiosk', { login_hint: wrong })
  await stage.poll('kiosk', wrong)
  await stage.post('/oauth/token', {
    grant_type: 'refresh_token',
    refresh_token: wrong,
    client_secret: wrong,
    client_id: 'kiosk',
  })
  await stage.get(`/backchannel/authinfo?auth_req_id=${wrong}`, { authorization: `Bearer ${wrong}` })
  await stage.get(`/${wrong}`)

  assert.ok(used.length > 25 && stage.logLines.length > 25)
  const log = stage.logLines.join('')
  const database = JSON.stringify(await contentsOf(stage))
  const file = stage.database.slice('sqlite:'.length)
  for (const name of await readdir(dirname(file))) {
    const bytes = await readFile(`${dirname(file)}/${name}`)
    for (const [what, secret] of used) assert.ok(!bytes.includes(secret), `${what} is in ${name}`)
  }
  for (const [what, secret] of used) {
    assert.ok(!log.includes(secret), `${what} is in the log`)
    assert.ok(!database.includes(secret), `${what} is in the database`)
  }
})

test('NE-4: once the answer is delivered, what was sealed to deliver it is gone', async (t) => {
  const till = await openNotificationEndpoint(t)
  const northbank = await openNotificationEndpoint(t)
  const stage = await openStage(t, { till: till.url, northbank: northbank.url })
  for (const as of ['till', 'northbank'] as const) {
    await stage.ring(as)
    await stage.decide(await stage.newestRequest(), 'approved')
  }
  await stage.doorbell.idle()
  const { backchannel_auth_requests: requests, notifications } = await contentsOf(stage)
  assert.deepEqual(
    requests!.map(({ call_back_sealed }) => call_back_sealed),
    [null, null],
  )
  for (const { state, sealed } of notifications!) assert.deepEqual([state, sealed], ['delivered', null])
})
