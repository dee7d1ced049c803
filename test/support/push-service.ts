/** A push service, whose responses can be set, and its browsers, which decrypt messages (RFC 8291). */
import { createDecipheriv, createECDH, hkdfSync, randomBytes } from 'node:crypto'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { PushSubscription } from '../../src/authentication-device/channels/push-subscriptions.ts'

export interface Pushed {
  headers: IncomingHttpHeaders
  message: Record<string, unknown>
}

export interface Browser {
  subscription: PushSubscription
  /** The messages that the browser has received, decrypted. */
  received: Pushed[]
  /** Sets the status and the body with which the push service answers messages to this browser. Default: 201. */
  answers(status: number, body?: string): void
}

export interface PushService {
  /** The audience that a VAPID token must have (RFC 8292 §2). */
  origin: string
  newBrowser(): Browser
}

export async function openPushService(t: TestContext): Promise<PushService> {
  const browsers = new Map<
    string,
    { decrypt(body: Buffer): string; received: Pushed[]; status: number; body: string }
  >()

  const server = createServer(async (request, response) => {
    const browser = browsers.get(request.url ?? '')
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const message = browser?.decrypt(Buffer.concat(chunks))
    if (browser && message) browser.received.push({ headers: request.headers, message: JSON.parse(message) })
    response.writeHead(browser?.status ?? 404).end(browser?.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  })
  const origin = `http://localhost:${(server.address() as AddressInfo).port}`

  return {
    origin,
    newBrowser() {
      const path = `/push/${randomBytes(24).toString('base64url')}`
      const keys = createECDH('prime256v1')
      const p256dh = keys.generateKeys()
      const auth = randomBytes(16)
      const browser = {
        decrypt: (body: Buffer) => decrypt(body, keys, auth),
        received: [] as Pushed[],
        status: 201,
        body: '',
      }
      browsers.set(path, browser)
      return {
        subscription: {
          endpoint: origin + path,
          keys: { p256dh: p256dh.toString('base64url'), auth: auth.toString('base64url') },
        },
        received: browser.received,
        answers(status, body = '') {
          browser.status = status
          browser.body = body
        },
      }
    },
  }
}

/**
 * Decrypts a message (RFC 8291 §3.4). The body has the format of RFC 8188: salt, record size, key id, and one record.
 * The key id is the public key of the sender.
 */
function decrypt(body: Buffer, keys: ReturnType<typeof createECDH>, auth: Buffer): string {
  const salt = body.subarray(0, 16)
  const idLength = body[20]!
  const theirs = body.subarray(21, 21 + idLength)
  const record = body.subarray(21 + idLength)

  const info = Buffer.concat([Buffer.from('WebPush: info\0'), keys.getPublicKey(), theirs])
  const material = Buffer.from(hkdfSync('sha256', keys.computeSecret(theirs), auth, info, 32))
  const derive = (what: string, length: number) =>
    Buffer.from(hkdfSync('sha256', material, salt, `Content-Encoding: ${what}\0`, length))

  const decipher = createDecipheriv('aes-128-gcm', derive('aes128gcm', 16), derive('nonce', 12))
  decipher.setAuthTag(record.subarray(-16))
  const padded = Buffer.concat([decipher.update(record.subarray(0, -16)), decipher.final()])
  // The padding of the last record is a byte 2 and any number of zeros (RFC 8188 §2).
  return padded.subarray(0, padded.lastIndexOf(2)).toString('utf8')
}
