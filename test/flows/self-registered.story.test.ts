/** Clients that registered themselves: users are told so, and see no misleading name or link. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { engines } from '../support/engines.ts'
import { openMailServer } from '../support/mail-server.ts'
import { ana, basic, CIBA, newNotificationToken, openStage, type Stage } from '../support/stage.ts'
import { openVisitor } from '../support/visitor.ts'

const endpoint = 'https://callbacks.shop.example/ping'
const ping = {
  grant_types: [CIBA],
  backchannel_token_delivery_mode: 'ping',
  backchannel_client_notification_endpoint: endpoint,
}
const poll = { grant_types: [CIBA], backchannel_token_delivery_mode: 'poll' as const }
const open: ConfigInput = { registration: { mode: 'open', perHour: 1000 } }
const mailed: ConfigInput = { ...open, email: { smtp: 'smtp://localhost:9', from: 'no-reply@example.com' } }

async function call(url: string, method: string, metadata: object, token?: string) {
  const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) }
  const answer = await fetch(url, { method, headers, body: JSON.stringify(metadata) })
  return { status: answer.status, body: (await answer.json()) as Record<string, string> }
}

const register = (stage: Stage, metadata: object) => call(`${stage.url}/oauth/register`, 'POST', metadata)

async function sendRequest(stage: Stage, { client_id, client_secret }: Record<string, string>, more = {}) {
  stage.clock.advance(1)
  const form = { scope: 'openid', login_hint: 'ana', binding_message: 'Coffee 4.20', ...more }
  return stage.post('/backchannel/authorize', form, basic(client_id!, client_secret!))
}

/** Resolves to the newest mail. The worker sends due mails to the mailbox before that. */
async function newestMail(stage: Stage): Promise<{ text: string; html: string }> {
  await stage.doorbell.idle()
  const { body } = await stage.get('/dev/mailbox', { accept: 'application/json' })
  return (body.mails as { text: string; html: string }[])[0]!
}

for (const engine of engines) {
  describe(`a client that registered itself, on ${engine.name}`, () => {
    test('is marked as self-registered, with the hosts of its addresses, on the page, in the mail and for device services', async (t) => {
      const stage = await openStage(t, { engine, config: open })
      const { body: shop } = await register(stage, { ...ping, client_name: 'Shop' })
      await sendRequest(stage, shop, { client_notification_token: newNotificationToken() })
      const says =
        /Shop registered itself here\. Its identity has not been verified\. It states that its addresses are at callbacks\.(\u2060)?shop/
      const id = await stage.newestRequest()
      const visitor = openVisitor(stage.url)
      assert.match((await visitor.signIn(ana, `/approve/${id}`)).text, says)
      const mail = await newestMail(stage)
      for (const part of [mail.text, mail.html]) {
        assert.match(part, says)
        assert.ok(!part.includes('callbacks.shop.example'), 'nothing that a mail program turns into a link')
      }
      const [{ client }] = (await stage.waiting()) as [{ client: Record<string, unknown> }]
      assert.deepEqual([client.self_registered, client.hosts], [true, ['callbacks.shop.example']])

      const { body: booth } = await register(stage, { ...poll, client_name: 'Booth' })
      await sendRequest(stage, booth)
      assert.match((await newestMail(stage)).text, /Booth registered itself here.*it has given no address/)

      await stage.ring('kiosk')
      assert.doesNotMatch((await newestMail(stage)).text, /registered itself/)
      const [{ client: kiosk }] = (await stage.waiting()) as [{ client: Record<string, unknown> }]
      assert.deepEqual([kiosk.self_registered, kiosk.hosts], [undefined, undefined])
    })

    test('is not shown with the host of an address at which it is never called', async (t) => {
      const stage = await openStage(t, { engine, config: open })
      const elsewhere = { redirect_uris: ['https://www.bank.example/'], jwks_uri: 'https://bank.example/keys' }
      const grant_types = [CIBA, 'authorization_code']
      for (const metadata of [
        { ...poll, ...elsewhere },
        { ...poll, ...elsewhere, grant_types },
      ]) {
        const { status, body } = await register(stage, { ...metadata, client_name: 'Booth' })
        assert.equal(status, 201, JSON.stringify(body))
        await sendRequest(stage, body)
        assert.doesNotMatch((await newestMail(stage)).text, /bank/)
        const [{ client }] = (await stage.waiting()) as [{ client: Record<string, unknown> }]
        assert.deepEqual(client.hosts, [])
      }
      const { body } = await register(stage, { ...ping, ...elsewhere, client_name: 'Shop' })
      await sendRequest(stage, body, { client_notification_token: newNotificationToken() })
      const [{ client }] = (await stage.waiting()) as [{ client: Record<string, unknown> }]
      assert.deepEqual(client.hosts, ['callbacks.shop.example'])
    })

    test("cannot take the name of an operator's client, or an unreadable one, at registration or later", async (t) => {
      const stage = await openStage(t, { engine, config: open })
      const symbols = ['Ⓚiosk', 'Kios⒦', '🄚iosk', '🄺iosk', '🅚iosk', 'Ki◯sk', 'Ki()sk']
      const wrong = [
        'Kiosk',
        'KIOSK',
        'K i o s k',
        'Ｋｉｏｓｋ',
        'Kіоsk',
        'phone-service',
        'Doorbell',
        '\u3164',
        '🚕',
        ...symbols,
      ]
      for (const client_name of wrong) {
        const { status, body } = await register(stage, { ...poll, client_name })
        assert.deepEqual([status, body.error], [400, 'invalid_client_metadata'], client_name)
        assert.match(body.error_description!, /^client_name /)
      }
      const { status, body } = await register(stage, { ...poll, client_name: 'Kiosk of Ben' })
      assert.equal(status, 201)
      assert.equal((await register(stage, { ...poll, client_name: 'Kiosk of Ben' })).status, 201, 'no name was taken')
      const replacing = { ...poll, client_id: body.client_id, client_name: 'Kiosk' }
      const replaced = await call(body.registration_client_uri!, 'PUT', replacing, body.registration_access_token)
      assert.deepEqual([replaced.status, replaced.body.error], [400, 'invalid_client_metadata'])
    })

    test('or any other has no link in names and binding messages that are mailed', async (t) => {
      const links = ['evil.com', 'Pay at https://evil.example', 'shop.example/pay', 'Confirm at my.bank-login.life']
      const prices = ['Coffee 4.20', 'Fr. 12.50', 'Pay 12.50 EUR', 'v1.2']
      const stage = await openStage(t, { engine, config: mailed, parts: { workers: false } })
      for (const client_name of links) {
        assert.equal(
          (await register(stage, { ...poll, client_name })).body.error,
          'invalid_client_metadata',
          client_name,
        )
      }
      for (const client_name of prices) assert.equal((await register(stage, { ...poll, client_name })).status, 201)
      for (const binding_message of links) {
        const { status, body } = await stage.ring('kiosk', { binding_message })
        assert.deepEqual([status, body.error], [400, 'invalid_binding_message'], binding_message)
      }
      for (const binding_message of prices) assert.equal((await stage.ring('kiosk', { binding_message })).status, 200)
      const unmailed = await openStage(t, { engine, config: open, parts: { workers: false } })
      for (const text of links) {
        assert.equal((await register(unmailed, { ...poll, client_name: text })).status, 201)
        assert.equal((await unmailed.ring('kiosk', { binding_message: text })).status, 200)
      }
    })

    test('is named at the start if a client that the configuration adds later has the same name', async (t) => {
      const stage = await openStage(t, { engine, config: open })
      const { body: shop } = await register(stage, { ...poll, client_name: 'Corner Café' })
      await register(stage, { ...poll, client_name: 'Corner Café 2' })
      const { body: renamed } = await register(stage, { ...poll, client_name: 'Bakery' })
      const replacing = { ...poll, client_id: renamed.client_id, client_name: 'flowers' }
      await call(renamed.registration_client_uri!, 'PUT', replacing, renamed.registration_access_token)
      const warn = 40
      const named = () =>
        stage.logLines
          .map((line) => JSON.parse(line) as Record<string, unknown>)
          .filter(({ event }) => event === 'client.same_name')
          .map(({ level, client, registered }) => [level, client, registered])
      await stage.restart()
      assert.deepEqual(named(), [])
      const secret = { client_secret: 'a long secret 4907 of this client', ...poll }
      const clients = [
        { client_id: 'cafe', client_name: 'CORNER cafe', ...secret },
        { client_id: 'flowers', ...secret },
        { client_id: 'bakery', client_name: 'Bakery', ...secret },
      ]
      await stage.restart({ ...open, clients })
      assert.deepEqual(named(), [
        [warn, 'cafe', shop.client_id],
        [warn, 'flowers', renamed.client_id],
      ])
      await stage.restart({ ...open, clients: [...clients, { ...secret, client_id: shop.client_id! }] })
      assert.deepEqual(
        named().slice(2),
        [[warn, 'flowers', renamed.client_id]],
        'the operator has taken over the first one',
      )
    })

    test('is named at the start if its name looks like that of such a client, because signs stand for letters', async (t) => {
      const stage = await openStage(t, { engine, config: open })
      const secret = { client_secret: 'a long secret 4907 of this client', ...poll }
      const alike = {
        'C!rner': { client_id: 'corner-shop', client_name: 'Corner' },
        'B@k*ry': { client_id: 'bread', client_name: 'Bakery' },
        'F.l.o.w.e.r.s': { client_id: 'roses', client_name: 'FLOWERS' },
        Tŋnnis: { client_id: 'court', client_name: 'Tennis' },
        '(afé': { client_id: 'cafe' },
        'B##ks': { client_id: 'library', client_name: 'Books?' },
      }
      const different = { 'Tr!': { client_id: 'trees' }, 'C!net': { client_id: 'cinema', client_name: 'Coronet' } }
      const ids: Record<string, string> = {}
      for (const client_name of Object.keys({ ...alike, ...different })) {
        const { status, body } = await register(stage, { ...poll, client_name })
        assert.equal(status, 201, client_name)
        ids[client_name] = String(body.client_id)
      }
      const clients = Object.values({ ...alike, ...different }).map((client) => ({ ...secret, ...client }))
      await stage.restart({ ...open, clients })
      const named = stage.logLines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ event }) => event === 'client.same_name')
        .map(({ client, registered }) => `${client} ${registered}`)
      const expected = Object.entries(alike).map(([name, { client_id }]) => `${client_id} ${ids[name]}`)
      assert.deepEqual(named.toSorted(), expected.toSorted())
    })

    test('is mailed without a link under a name that it registered before mail was configured', async (t) => {
      const mailServer = await openMailServer(t)
      const stage = await openStage(t, { engine, config: open })
      const names = ['Pay at evil.example now', 'Open https://evil.example/x?y', 'Write mailto:ana@evil', 'Coffee 4.20']
      const shops = []
      for (const client_name of names) shops.push((await register(stage, { ...poll, client_name })).body)
      await stage.restart({ email: { smtp: mailServer.url, from: 'no-reply@example.com' } })
      for (const [index, shop] of shops.entries()) {
        const name = names[index]!
        await sendRequest(stage, shop)
        await stage.doorbell.idle()
        assert.equal(mailServer.mails.length, index + 1)
        const { subject, text, html } = mailServer.mails[index]!
        for (const part of [subject, text, html]) {
          assert.ok(part.replaceAll('\u2060', '').includes(name), `${name} can still be read`)
          assert.doesNotMatch(part, /evil\.example|https:\/\/evil|mailto:ana/)
        }
        if (name === 'Coffee 4.20') assert.ok(subject.includes(name), 'this is no link')
      }
    })
  })
}
