/**
 * One purchase at the demo's till: the till sends an authentication request, waits for the result, and verifies the
 * tokens.
 */

import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import { type Clock, steadyTime } from '../platform/clock.ts'
import { newSecret, sameSecret } from '../platform/crypto.ts'
import { bearerOf } from '../platform/http/authorization.ts'
import type { Log } from '../platform/log.ts'
import { clientOf, type Display, type Order, type ReceivedCallBack } from './order.ts'
import { type Json, parse, type TillClient } from './till-client.ts'
import { shorten } from './wire.ts'

export interface PurchaseNeeds {
  issuer: string
  till: TillClient
  /** Called whenever the display changes. */
  show(display: Display): void
  clock: Clock
  log: Log
}

export interface Purchase {
  display(): Display
  /**
   * Processes a ping or push for the client of this purchase. Ignores a call if its bearer token does not belong to
   * this purchase.
   */
  receive(call: ReceivedCallBack): void
  /** Stops waiting for the result. */
  cancel(): void
}

/** Seconds until the request expires. It is long enough for a sign-in, and short enough to wait for the expiry. */
const expirySeconds = 180
/** Milliseconds that the till waits for a ping or push after the request has expired. */
const graceMs = 15_000

interface State {
  status: Display['status']
  detail: string
  claims: Display['claims']
  /** When the request expires, in monotonic milliseconds of this process (`steadyTime`). */
  expiresAt?: number
}

/** Creates the display of a purchase. After the purchase is cancelled, the display does not change any more. */
function createProgress(order: Order, number: number, { show, clock }: Pick<PurchaseNeeds, 'show' | 'clock'>) {
  const state: State = { status: 'ringing', detail: '', claims: [] }
  let cancelTimer = () => {}
  let isCancelled = false

  const display = () => displayOf({ ...order, ...state, number }, steadyTime(clock))

  function change(changed: Partial<State>): void {
    if (isCancelled) return
    Object.assign(state, changed)
    show(display())
  }

  return {
    display,
    status: () => state.status,
    isCancelled: () => isCancelled,
    change,
    finish(status: Display['status'], more: Partial<State> = {}): void {
      cancelTimer()
      change({ status, ...more })
    },
    /** Calls `then` after this many milliseconds. Only one timer may run at a time. */
    after(milliseconds: number, then: () => void): void {
      cancelTimer = clock.after(milliseconds, then)
    },
    cancel(): void {
      isCancelled = true
      cancelTimer()
    },
  }
}

export function createPurchase(order: Order, number: number, needs: PurchaseNeeds): Purchase {
  const { till, clock, log, issuer } = needs
  const { mode } = order
  const client = clientOf[mode]
  const notificationToken = newSecret()
  const progress = createProgress(order, number, needs)
  const { finish, isCancelled } = progress
  let authReqId: string | undefined
  let intervalSeconds = 5

  const refused = (body: Json) => finish(...outcomeOf(body))

  function run(work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (isCancelled()) return
      log.error({ event: 'demo.till_failed', error })
      finish('failed', { detail: 'an error occurred at the till; see the log of the server' })
    })
  }

  async function ask(): Promise<void> {
    const { status, body } = await till.requestAuthentication(client, fieldsOf(order, notificationToken))
    if (isCancelled()) return
    if (status !== 200) return finish('failed', { detail: reasonIn(body) })
    authReqId = String(body.auth_req_id)
    const lifeMs = Number(body.expires_in) * 1000
    // If the result was received before this response, the status is kept.
    const stands = progress.status() === 'ringing' ? 'waiting' : progress.status()
    progress.change({ status: stands, expiresAt: steadyTime(clock) + lifeMs })
    if (mode === 'poll') {
      intervalSeconds = Number(body.interval ?? intervalSeconds)
      return pollLater()
    }
    progress.after(lifeMs + graceMs, () => {
      if (progress.status() === 'waiting') finish('expired', { detail: 'the till was not notified' })
    })
  }

  function pollLater(): void {
    progress.after(intervalSeconds * 1000, () => run(redeem()))
  }

  async function redeem(): Promise<void> {
    const { status, body } = await till.requestTokens(client, authReqId!, mode === 'poll')
    if (isCancelled()) return
    if (status === 200) return check(body)
    if (body.error === 'slow_down') intervalSeconds += 5
    if (body.error === 'slow_down' || body.error === 'authorization_pending') return pollLater()
    refused(body)
  }

  /** The purchase is paid only if the signature of the ID token is valid. */
  async function check({ id_token: idToken }: Json): Promise<void> {
    const payload = await readIdToken(idToken, await till.fetchKeys(), { issuer, audience: client, now: clock.now() })
    if (isCancelled()) return
    if (mode === 'push' && payload[AUTH_REQ_ID] !== authReqId)
      return finish('failed', { detail: 'the ID token is for another request' })
    finish('paid', { claims: claimsShown(payload) })
  }

  function receive(call: ReceivedCallBack): void {
    if (call.name !== client || progress.status() === 'paid') return
    if (!hasBearer(call.authorization, notificationToken)) return
    const body = parse(call.body)
    // A ping or push may arrive before the acknowledgement with the `auth_req_id`. Only Doorbell knows the bearer
    // token, so the `auth_req_id` in the ping or push is trusted.
    authReqId ??= String(body.auth_req_id)
    if (authReqId !== body.auth_req_id) return
    till.showNotification(call, mode === 'ping')
    if (mode === 'ping') run(redeem())
    else if (body.id_token) run(check(body))
    else refused(body)
  }

  needs.show(progress.display())
  run(ask())
  return { display: progress.display, receive, cancel: progress.cancel }
}

/** A claim in the ID token of a push (CIBA Core §10.3.1). */
const AUTH_REQ_ID = 'urn:openid:params:jwt:claim:auth_req_id'

async function readIdToken(
  idToken: unknown,
  keys: Json,
  { issuer, audience, now }: { issuer: string; audience: string; now: number },
): Promise<JWTPayload> {
  const keySet = createLocalJWKSet(keys as unknown as JSONWebKeySet)
  const options = { issuer, audience, currentDate: new Date(now), clockTolerance: 60 }
  return (await jwtVerify(String(idToken), keySet, options)).payload
}

/** Returns the parameters of the authentication request (CIBA Core §7.1). */
function fieldsOf({ mode, item, amount }: Order, notificationToken: string): Record<string, string> {
  return {
    scope: 'openid',
    login_hint: 'alice@example.com',
    binding_message: `${item} ${amount}`,
    requested_expiry: String(expirySeconds),
    ...(mode !== 'poll' && { client_notification_token: notificationToken }),
  }
}

function hasBearer(authorization: string | undefined, expected: string): boolean {
  const token = bearerOf(authorization)
  return token !== undefined && sameSecret(token, expected)
}

function outcomeOf(body: Json): [Display['status'], Partial<State>?] {
  if (body.error === 'access_denied') return ['refused']
  if (body.error === 'expired_token') return ['expired']
  return ['failed', { detail: reasonIn(body) }]
}

function reasonIn({ error, error_description: description }: Json): string {
  return description === undefined ? String(error ?? 'no reason was given') : String(description)
}

function displayOf(shown: Order & State & { number: number }, now: number): Display {
  const { number, mode, item, amount, status, detail, claims, expiresAt = now } = shown
  const secondsLeft = status === 'waiting' ? Math.max(0, Math.ceil((expiresAt - now) / 1000)) : 0
  return { number, mode, item, amount, status, detail, claims, secondsLeft }
}

/** Returns the claims to show: those about the issuer, the user, the client and the authentication. */
function claimsShown(payload: JWTPayload): Display['claims'] {
  const time = (seconds: unknown) => `${new Date(Number(seconds) * 1000).toISOString().slice(11, 19)} UTC`
  const shown = {
    iss: payload.iss,
    sub: payload.sub,
    aud: payload.aud,
    amr: payload.amr,
    auth_time: payload.auth_time === undefined ? undefined : time(payload.auth_time),
    iat: time(payload.iat),
    auth_req_id: payload[AUTH_REQ_ID],
  }
  return Object.entries(shown)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, name === 'auth_req_id' ? shorten(String(value)) : [value].flat().join(', ')])
}
