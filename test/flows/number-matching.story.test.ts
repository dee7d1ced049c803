/** With number matching, Ana picks the number that Kiosk shows: an approval without looking usually fails (CD-8). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { bearerOf } from '../support/phone-app.ts'
import { openPushService } from '../support/push-service.ts'
import { ben, credentials, openStage, type Stage, type StageOptions } from '../support/stage.ts'

const on: StageOptions = { config: { requests: { numberMatching: true } } }

for (const engine of engines) {
  describe(`Ana picks a number, on ${engine.name}`, () => {
    test('the right one among others, in the same order each time: approved', async (t) => {
      const stage = await openStage(t, { ...on, engine })
      const bearer = await bearerOf(stage)
      const { requestId, authReqId } = await sendRequest(stage, '47')
      const shown = await look(stage, bearer, requestId)
      const choices = shown.number_choices as string[]
      assert.ok(choices.includes('47'))
      assert.equal(new Set(choices).size, 3)
      assert.ok(choices.every((choice) => /^\d{2}$/.test(choice)))
      assert.ok(!('binding_message' in shown))
      assert.deepEqual((await look(stage, bearer, requestId)).number_choices, choices)
      await stage.restart()
      assert.deepEqual((await look(stage, bearer, requestId)).number_choices, choices)

      const decided = await approve(stage, bearer, requestId, '47')
      assert.deepEqual([decided.status, decided.body], [200, { request_id: requestId, status: 'approved' }])
      assert.equal((await stage.poll('kiosk', authReqId)).status, 200)
    })

    test('a wrong one: denied, finally', async (t) => {
      const stage = await openStage(t, { ...on, engine })
      const bearer = await bearerOf(stage)
      const { requestId, authReqId } = await sendRequest(stage, '0815')
      const wrong = ((await look(stage, bearer, requestId)).number_choices as string[]).find((one) => one !== '0815')!
      const decided = await approve(stage, bearer, requestId, wrong)
      const reason = 'wrong_number'
      assert.deepEqual([decided.status, decided.body], [200, { request_id: requestId, status: 'denied', reason }])
      assert.equal((await stage.poll('kiosk', authReqId)).body.error, 'access_denied')
      assert.equal((await approve(stage, bearer, requestId, '0815')).status, 409)
    })
  })
}

describe('where number matching applies', () => {
  test("without a number nothing is decided; a denial needs none; Ben's request is not revealed", async (t) => {
    const stage = await openStage(t, on)
    const bearer = await bearerOf(stage)
    const { requestId } = await sendRequest(stage, '47')
    const missing = await approve(stage, bearer, requestId)
    assert.deepEqual([missing.status, missing.body.error], [400, 'invalid_request'])
    assert.doesNotMatch(missing.text, /47/)
    assert.equal((await look(stage, bearer, requestId)).status, 'pending')
    for (const number of ['47', '48', undefined]) {
      assert.equal((await approve(stage, await bearerOf(stage, ben), requestId, number)).status, 404)
    }
    const denied = await stage.post('/backchannel/complete', { request_id: requestId, status: 'denied' }, bearer)
    assert.deepEqual(denied.body, { request_id: requestId, status: 'denied' })
  })

  for (const message of ['Coffee 4.20', '7', '1234567', '47 ', '４７', '']) {
    test(`"${message}" is not a number: it is shown and compared as usual`, async (t) => {
      const stage = await openStage(t, on)
      const bearer = await bearerOf(stage)
      const { requestId } = await sendRequest(stage, message)
      const shown = await look(stage, bearer, requestId)
      assert.deepEqual([shown.binding_message, shown.number_choices], [message || undefined, undefined])
      assert.equal((await approve(stage, bearer, requestId)).body.status, 'approved')
    })
  }

  test('a device service is shown the message and picks nothing', async (t) => {
    const stage = await openStage(t, on)
    const { requestId } = await sendRequest(stage, '47')
    const [waiting] = await stage.waiting()
    assert.deepEqual([waiting!.binding_message, waiting!.number_choices], ['47', undefined])
    assert.equal((await stage.decide(requestId, 'approved')).body.status, 'approved')
  })

  test('with number matching off, a number is a message like others', async (t) => {
    const stage = await openStage(t)
    const bearer = await bearerOf(stage)
    const { requestId } = await sendRequest(stage, '47')
    const shown = await look(stage, bearer, requestId)
    assert.deepEqual([shown.binding_message, shown.number_choices], ['47', undefined])
    assert.equal((await approve(stage, bearer, requestId)).body.status, 'approved')
  })

  test('where it is required, every request must have a number as its message', async (t) => {
    const stage = await openStage(t, { config: { requests: { numberMatching: 'required' } } })
    for (const binding_message of ['', 'Coffee 4.20', '4', '1234567', '12 34', '１２３', '-47']) {
      const { status, body } = await stage.ring('kiosk', { binding_message })
      assert.deepEqual([status, body.error], [400, 'invalid_binding_message'], binding_message)
    }
    assert.deepEqual(await stage.waiting(), [])
    const { requestId } = await sendRequest(stage, '47')
    assert.equal((await look(stage, await bearerOf(stage), requestId)).binding_message, undefined)
  })

  test('no mail and no web push message contains the number; a device service gets it', async (t) => {
    const pushes = await openPushService(t)
    const service = await openNotificationEndpoint(t)
    const config = {
      requests: { numberMatching: true },
      webPush: { subject: 'mailto:ops@id.example' },
      deviceWebhook: { url: service.url, secret: newSecret() },
    }
    const stage = await openStage(t, { config })
    const browser = pushes.newBrowser()
    const added = await subscribe(stage, await bearerOf(stage), JSON.stringify(browser.subscription))
    assert.equal(added.status, 201, added.text)
    for (const message of ['314159', 'Tea for 2']) await stage.ring('kiosk', { binding_message: message })
    await stage.doorbell.idle()

    const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
    const mails = (body.mails as { text: string; html: string }[]).map(({ text, html }) => text + html)
    const messages = browser.received.map(({ message }) => String(message.body))
    for (const told of [mails, messages]) {
      assert.equal(told.length, 2)
      assert.ok(!told.join().includes('314159'))
      assert.ok(told.join().includes('Tea for 2'))
    }
    assert.deepEqual(service.heard.map(({ body }) => body.binding_message).sort(), ['314159', 'Tea for 2'])
  })
})

for (const engine of engines) {
  describe(`the browsers that receive Ana's messages, on ${engine.name}`, () => {
    async function setUp(t: Parameters<typeof openStage>[0]) {
      const service = await openPushService(t)
      const stage = await openStage(t, { engine, config: { webPush: { subject: 'mailto:ops@id.example' } } })
      const sendRequest = async () => {
        await stage.ring('kiosk')
        await stage.doorbell.idle()
      }
      return { stage, browser: service.newBrowser(), bearer: await bearerOf(stage), sendRequest }
    }

    test('are added and removed by her alone', async (t) => {
      const { stage, browser, bearer, sendRequest } = await setUp(t)
      const { endpoint } = browser.subscription
      const added = await subscribe(stage, bearer, JSON.stringify({ ...browser.subscription, expirationTime: null }))
      assert.deepEqual([added.status, added.body], [201, { subscribed: true }])
      assert.equal((await subscribe(stage, bearer, JSON.stringify(browser.subscription))).status, 201, 'twice is once')
      await sendRequest()
      assert.equal(browser.received.length, 1)

      assert.equal((await unsubscribe(stage, await bearerOf(stage, ben), endpoint)).status, 200)
      await sendRequest()
      assert.equal(browser.received.length, 2, 'Ben cannot remove hers')
      assert.deepEqual((await unsubscribe(stage, bearer, endpoint)).body, { subscribed: false })
      await sendRequest()
      assert.equal(browser.received.length, 2)
    })

    test('an invalid subscription is refused', async (t) => {
      const { stage, browser, bearer, sendRequest } = await setUp(t)
      const { endpoint, keys } = browser.subscription
      const garbage = [
        ...['', 'nonsense', 'null', '[]', '{}', '"https://push.example"', '{"endpoint":'],
        JSON.stringify({ endpoint }),
        JSON.stringify({ endpoint, keys: {} }),
        JSON.stringify({ endpoint: 'ftp://push.example/x', keys }),
        JSON.stringify({ endpoint, keys: { ...keys, auth: 'short' } }),
        JSON.stringify({ endpoint: `${endpoint}?${'x'.repeat(3000)}`, keys }),
      ]
      for (const subscription of garbage) {
        const { status, body } = await subscribe(stage, bearer, subscription)
        assert.deepEqual([status, body.error], [400, 'invalid_request'], subscription.slice(0, 80))
      }
      for (const nowhere of ['', 'nonsense']) {
        assert.equal((await unsubscribe(stage, bearer, nowhere)).status, 200, 'an unknown one counts as removed')
      }
      await sendRequest()
      assert.equal(browser.received.length, 0)
    })
  })
}

test('cannot be added by a device service, a CIBA client or a caller without a token', async (t) => {
  const stage = await openStage(t)
  for (const authorization of [credentials.phoneService, credentials.kiosk, 'Bearer made-up', undefined]) {
    assert.equal((await subscribe(stage, authorization, '{}')).status, 401)
    assert.equal((await unsubscribe(stage, authorization, 'https://push.example')).status, 401)
  }
})

async function sendRequest(stage: Stage, message: string) {
  const { body, text } = await stage.ring('kiosk', { binding_message: message })
  assert.ok(body.auth_req_id, text)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

async function look(stage: Stage, authorization: string, requestId: string): Promise<Record<string, unknown>> {
  const { body } = await stage.get(`/backchannel/authinfo?request_id=${requestId}`, { authorization })
  return (body.requests as Record<string, unknown>[])[0]!
}

function approve(stage: Stage, authorization: string, requestId: string, number?: string) {
  const form = { request_id: requestId, status: 'approved', ...(number !== undefined && { number }) }
  return stage.post('/backchannel/complete', form, authorization)
}

function subscribe(stage: Stage, authorization: string | undefined, subscription: string) {
  return stage.post('/backchannel/push-subscriptions', { login_hint: 'ana', subscription }, authorization)
}

function unsubscribe(stage: Stage, authorization: string | undefined, endpoint: string) {
  return stage.post('/backchannel/push-subscriptions/remove', { login_hint: 'ana', endpoint }, authorization)
}
