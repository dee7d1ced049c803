import assert from 'node:assert/strict'
import { type CreationOptions, createAuthenticator, type RequestOptions } from '../support/authenticator.ts'
import { signIn } from '../support/phone-app.ts'
import type { PushService } from '../support/push-service.ts'
import { ana, type Stage } from '../support/stage.ts'
import type { Wiretap } from '../support/wiretap.ts'

/** A browser with web push, a passkey that confirms, challenges that are not answered, a client that is blocked. */
export async function playDevice(stage: Stage, tap: Wiretap, pushes: PushService): Promise<void> {
  const bearer = `Bearer ${(await signIn(stage)).access_token}`
  const post = async <Body>(path: string, form: Record<string, string>): Promise<Body> => {
    const { status, body, text } = await stage.post(`/backchannel/${path}`, form, bearer)
    assert.ok(status < 300, `${path}: ${text}`)
    return body as Body
  }
  const challenged = <Options extends { challenge: string }>(options: Options): Options => {
    tap.note(options.challenge, "a passkey's challenge")
    return options
  }

  const { subscription } = pushes.newBrowser()
  tap.note(subscription.endpoint.slice(pushes.origin.length + '/push/'.length), 'the address of a browser')
  tap.note(subscription.keys.p256dh, "a browser's key")
  tap.note(subscription.keys.auth, "a browser's secret")
  await post('push-subscriptions', { subscription: JSON.stringify(subscription) })
  await stage.ring('kiosk', { login_hint: ana.phone_number })
  await stage.ring('kiosk', { login_hint: ana.phone_number })
  await stage.doorbell.idle()

  const authenticator = createAuthenticator(stage.url)
  await post('passkeys', {
    passkey: authenticator.create(challenged(await post<CreationOptions>('passkeys/options', {}))),
  })
  const { requests } = (await stage.get('/backchannel/authinfo?status=pending', { authorization: bearer })).body
  const [{ request_id }, unanswered] = requests as { request_id: string }[] as [
    { request_id: string },
    { request_id: string },
  ]
  challenged(await post<RequestOptions>('passkeys/confirm-options', { request_id: unanswered.request_id }))
  const options = challenged(await post<RequestOptions>('passkeys/confirm-options', { request_id }))
  const passkey = authenticator.get(options)
  tap.note((JSON.parse(passkey) as { response: { signature: string } }).response.signature, 'what a passkey answers')
  await post('complete', { request_id, status: 'approved', passkey })
  await post('block', { client_id: 'till', blocked: 'true' })
}
