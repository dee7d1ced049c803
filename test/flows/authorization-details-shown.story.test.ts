/** Authorization details as users see them, and how users approve less than a client requested. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { z } from 'zod'
import { bearerOf } from '../support/phone-app.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'
import { accounts, type Detail, limit, payment, sendRequest, withTypes } from './detail-types.ts'

describe('deciding through the device API', () => {
  test("the user's own app reduces the details with JSON; Ben learns nothing of Ana's", async (t) => {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await sendRequest(stage, [accounts])
    const complete = async (who: typeof ana | typeof ben, authorization_details: unknown) => {
      const authorization = await bearerOf(stage, who)
      const response = await fetch(`${stage.url}/backchannel/complete`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify({ request_id: requestId, status: 'approved', authorization_details }),
      })
      return response.status
    }
    assert.equal(await complete(ben, [accounts]), 404)
    assert.equal(await complete(ben, [limit]), 404, 'not even whether this would have been too much')
    assert.equal(await complete(ana, [limit]), 400)
    assert.equal(await complete(ana, [{ ...accounts, accounts: ['DE40'] }]), 200)
    const { body } = await stage.poll('kiosk', authReqId)
    assert.deepEqual(body.authorization_details, [{ ...accounts, accounts: ['DE40'] }])
  })

  test('the text is in the requested language and leaves out no field (RA-10)', async (t) => {
    const stage = await openStage(t, withTypes())
    const authorization = await bearerOf(stage)
    const words = async (query: string, headers = {}) => {
      const { body } = await stage.get(`/backchannel/authinfo${query}`, { authorization, ...headers })
      const [newest] = body.requests as { authorization_details_text: { lines: string[] }[] }[]
      return newest!.authorization_details_text[0]!.lines
    }
    await sendRequest(stage, [payment])
    assert.deepEqual(await words('?ui_locales=de-AT'), ['Zahlung an Merchant <A> & Söhne: 123.50 EUR'])
    assert.deepEqual(await words('', { 'accept-language': 'de' }), ['Zahlung an Merchant <A> & Söhne: 123.50 EUR'])
    assert.deepEqual(await words('?ui_locales=fr'), ['Pay Merchant <A> & Söhne: 123.50 EUR'])
    await sendRequest(stage, [accounts])
    assert.deepEqual(await words('?ui_locales=de'), ['Konten ansehen: DE40, DE75, DE91'])
    await sendRequest(stage, [{ ...payment, creditor: 'A\u202eB\u200bC\nD' }])
    assert.deepEqual(await words(''), ['Pay A\ufffdB\ufffdC\ufffdD: 123.50 EUR'])
  })

  test('if a description fails or is empty, the fields are shown as they are', async (t) => {
    const schema = z.looseObject({})
    const failing = {
      throws: { schema, describe: () => assert.fail('bug') },
      silent: { schema, describe: () => ['', ' '] },
    }
    const stage = await openStage(t, { config: { authorizationDetails: { types: failing } } })
    await sendRequest(stage, [
      { type: 'throws', to: { iban: 'DE40', name: 'B' }, sums: [1, 2], why: null },
      { type: 'silent', loud: false },
    ])
    const [{ authorization_details_text: texts }] = (await stage.waiting()) as [Record<string, unknown>]
    assert.deepEqual(texts, [
      { lines: ['type: throws', 'to: DE40 B', 'sums: 1, 2', 'why: –'] },
      { lines: ['type: silent', 'loud: false'] },
    ])
    assert.match(stage.logLines.join(''), /"event":"details.not_described","type":"throws"/)
  })

  test('application code reads the details and may approve less, not more', async (t) => {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await sendRequest(stage, [accounts])
    const { requests } = stage.doorbell
    assert.deepEqual((await requests.list(ana.id))[0]!.authorizationDetails, [accounts])
    const more = [{ ...accounts, accounts: ['XX'] }]
    await assert.rejects(requests.approve(requestId, ana.id, {}, { authorizationDetails: more }), {
      code: 'invalid_authorization_details',
    })
    assert.deepEqual(await requests.approve(requestId, ben.id, {}, { authorizationDetails: more }), { kind: 'unknown' })
    const less = [{ ...accounts, accounts: ['DE75', 'DE91'] }]
    assert.equal((await requests.approve(requestId, ana.id, {}, { authorizationDetails: less })).kind, 'settled')
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, less)
  })
})

describe('on the page of the consent app', () => {
  async function looking(t: TestContext, details: Detail[]) {
    const stage = await openStage(t, withTypes())
    const { authReqId, requestId } = await sendRequest(stage, details)
    const path = `/approve/${requestId}`
    const visitor = openVisitor(stage.url)
    const page = await visitor.signIn(ana, path)
    assert.equal(page.status, 200)
    const boxes = [
      ...page.text.matchAll(/<input type="checkbox" form="approving" name="([^"]+)" value="yes" checked> ([^\s<]+)/g),
    ]
    return { stage, path, page, visitor, authReqId, boxes: new Map(boxes.map(([, name, text]) => [text!, name!])) }
  }

  test("the details are described in words, escaped, beside the scope's description (RA-4)", async (t) => {
    const { page, boxes, visitor } = await looking(t, [payment])
    assert.match(page.text, /know who you are/)
    assert.match(page.text, /Details of the request:/)
    assert.match(page.text, /<p>Pay Merchant &lt;A&gt; &amp; Söhne: 123.50 EUR<\/p>/)
    assert.equal(boxes.size, 0, 'a payment is all or nothing')
    assert.match((await visitor.get('/')).text, /Pay Merchant &lt;A&gt;/)
    assert.match(page.text, /<form id="approving" method="post"/)
  })

  test('unticked boxes are not approved, without any script; the history says so', async (t) => {
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [payment, accounts])
    assert.deepEqual([...boxes.keys()], ['read_balances', 'read_transactions', 'DE40', 'DE75', 'DE91'])
    const ticked = ['read_transactions', 'DE75'].map((text) => [boxes.get(text)!, 'yes'])
    const form = { form_token: formTokenOn(page), decision: 'approve', ...Object.fromEntries(ticked) }
    assert.equal((await visitor.post(path, form)).location, `${path}?just=approve`)
    const less = [payment, { ...accounts, actions: ['read_transactions'], accounts: ['DE75'] }]
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, less)
    const activity = (await visitor.get('/activity')).text
    assert.match(activity, /<p>See accounts DE75<\/p>/)
    assert.match(activity, /<p>Pay Merchant &lt;A&gt; &amp; Söhne: 123.50 EUR<\/p>/)
  })

  test('with all boxes ticked, everything is approved', async (t) => {
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [accounts])
    const ticked = Object.fromEntries([...boxes.values()].map((name) => [name, 'yes']))
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve', ...ticked })
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, [accounts])
  })

  test('with no box ticked nothing is decided, and the page says what to do', async (t) => {
    const { stage, path, page, visitor, boxes } = await looking(t, [accounts])
    for (const ticked of [{}, { [boxes.get('DE40')!]: 'yes' }]) {
      const seen = await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve', ...ticked })
      assert.equal(seen.location, `${path}?left=nothing`)
      assert.match((await visitor.follow(seen)).text, /role="alert">At least one item must stay ticked/)
    }
    assert.equal((await stage.waiting())[0]!.status, 'pending')
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'deny' })
    const activity = (await visitor.get('/activity')).text
    assert.match(activity, /<p>See accounts DE40, DE75, DE91<\/p>/, 'the details that were not approved')
  })

  test('details with more boxes than a form can hold are approved as a whole or not at all', async (t) => {
    const long = { ...accounts, accounts: Array.from({ length: 90 }, (_, n) => `DE${n}`) }
    const { stage, path, page, visitor, authReqId, boxes } = await looking(t, [long])
    assert.equal(boxes.size, 0)
    await visitor.post(path, { form_token: formTokenOn(page), decision: 'approve' })
    assert.deepEqual((await stage.poll('kiosk', authReqId)).body.authorization_details, [long])
  })
})
