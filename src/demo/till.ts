/**
 * The demo's till: a client like any other. It rings, waits as its delivery mode says, gets tokens and checks them.
 * What it knows of the server it learns from the answers.
 */
import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import type { Clock } from '../platform/clock.ts'
import { newSecret, sameSecret } from '../platform/crypto.ts'
import type { Log } from '../platform/log.ts'
import { shorten, type Wire } from './wire.ts'

export const modes = ['poll', 'ping', 'push'] as const

export type Mode = (typeof modes)[number]

/** The client that rings in each mode. */
export const clientOf: Readonly<Record<Mode, string>> = { poll: 'demo-till', ping: 'demo-shop', push: 'demo-bank' }

export interface Order {
  mode: Mode
  item: string
  amount: string
}

/** What the till's display shows. */
export interface Display extends Order {
  /** Counts the rings since the start. */
  ring: number
  status: 'ringing' | 'waiting' | 'paid' | 'refused' | 'expired' | 'failed'
  /** Why, where the status does not say it. */
  detail: string
  /** While it waits. */
  secondsLeft: number
  /** What the ID token says, its signature checked. */
  claims: [name: string, value: string][]
}

export interface ReceivedCallBack {
  /** The name in /dev/callback/:name. */
  name: string
  authorization: string | undefined
  contentType: string | undefined
  body: string
  /** What it was answered. */
  status: number
}

export interface TillNeeds {
  issuer: string
  paths: { backchannel: string; token: string; jwks: string }
  secretOf(clientId: string): string | undefined
  /** Sends one HTTP request to the server. */
  send(request: {
    method: 'GET' | 'POST'
    path: string
    headers: Record<string, string>
    body?: string
  }): Promise<{ status: number; text: string; headers: Record<string, string> }>
  wire: Wire
  clock: Clock
  log: Log
}

export interface Till {
  ring(order: Order): number
  /** A notification endpoint was called; whether it is for us shows its bearer token. */
  hear(call: ReceivedCallBack): void
  display(): Display | undefined
  /** Hears whenever the display changes. Returns how to stop listening. */
  listen(heard: (display: Display) => void): () => void
  stop(): void
}

interface Ring extends Order {
  number: number
  client: string
  notificationToken: string
  authReqId?: string
  /** Milliseconds since 1970. */
  expiresAt?: number
  /** Seconds. */
  interval: number
  status: Display['status']
  detail: string
  claims: Display['claims']
  cancels: (() => void)[]
}

const CIBA = 'urn:openid:params:grant-type:ciba'
const form = 'application/x-www-form-urlencoded'
/** Seconds the demo's user is given: time to sign in, and not too long to see what expiring looks like. */
const patience = 180
/** Milliseconds a till that is called back waits longer than the request lives. */
const grace = 15_000

type Json = Record<string, unknown>

export function createTill(needs: TillNeeds): Till {
  const { wire, clock, log } = needs
  const listeners = new Set<(display: Display) => void>()
  let count = 0
  let current: Ring | undefined

  function ring(order: Order): number {
    drop()
    const fresh: Ring = {
      ...order,
      number: ++count,
      client: clientOf[order.mode],
      notificationToken: newSecret(),
      interval: 5,
      status: 'ringing',
      detail: '',
      claims: [],
      cancels: [],
    }
    current = fresh
    wire.begin(fresh.number)
    tell(fresh)
    run(fresh, askDoorbell(fresh))
    return fresh.number
  }

  /** Whoever rings anew no longer waits for the answer to before. */
  function drop(): void {
    for (const cancel of current?.cancels ?? []) cancel()
    current = undefined
  }

  function run(mine: Ring, work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (mine !== current) return
      log.error({ event: 'demo.till_failed', error })
      finish(mine, 'failed', 'the till could not go on; the log of the server says why')
    })
  }

  async function askDoorbell(mine: Ring): Promise<void> {
    const fields = {
      scope: 'openid',
      login_hint: 'alice@example.com',
      binding_message: `${mine.item} ${mine.amount}`,
      requested_expiry: String(patience),
      ...(mine.mode !== 'poll' && { client_notification_token: mine.notificationToken }),
    }
    const ask = 'The till names Alice and asks whether she agrees. It cannot see her.'
    const { status, body } = await post(mine, needs.paths.backchannel, fields, ask, ({ status }) =>
      status === 200 ? `${ask} Doorbell takes it on and gives it a number.` : undefined,
    )
    if (mine !== current) return
    if (status !== 200) return finish(mine, 'failed', reasonIn(body))
    mine.authReqId = String(body.auth_req_id)
    const seconds = Number(body.expires_in)
    mine.expiresAt = clock.now() + seconds * 1000
    // Alice may have been faster than the answer.
    if (mine.status === 'ringing') mine.status = 'waiting'
    tell(mine)
    if (mine.mode === 'poll') {
      mine.interval = Number(body.interval ?? mine.interval)
      return pollLater(mine)
    }
    const tired = () => {
      if (mine.status === 'waiting') finish(mine, 'expired', 'and nobody called the till')
    }
    mine.cancels.push(clock.after(seconds * 1000 + grace, tired))
  }

  function pollLater(mine: Ring): void {
    mine.cancels = [clock.after(mine.interval * 1000, () => run(mine, redeem(mine)))]
  }

  /** Asks for the tokens. The same for poll, again and again, and for ping, once. */
  async function redeem(mine: Ring): Promise<void> {
    const ask = mine.mode === 'poll' ? 'The till comes by and asks: has Alice decided?' : 'The till fetches the result.'
    const fields = { grant_type: CIBA, auth_req_id: mine.authReqId! }
    const { status, body } = await post(mine, needs.paths.token, fields, ask, (answer) => {
      const said = answer.status === 200 ? 'She agreed: here are the tokens.' : saidBy[String(answer.body.error)]
      return said && `${ask} ${said}`
    })
    if (mine !== current) return
    if (status === 200) return check(mine, body)
    switch (body.error) {
      case 'slow_down':
        mine.interval += 5
        return pollLater(mine)
      case 'authorization_pending':
        return pollLater(mine)
      default:
        return refused(mine, body)
    }
  }

  function hear(call: ReceivedCallBack): void {
    const mine = current
    if (mine === undefined || call.name !== mine.client || mine.status === 'paid') return
    const token = /^bearer +(\S+)$/i.exec(call.authorization ?? '')?.[1]
    if (token === undefined || !sameSecret(token, mine.notificationToken)) return
    const body = parse(call.body)
    // The answer with the number may still be on its way to us; its token is only known to Doorbell.
    mine.authReqId ??= String(body.auth_req_id)
    if (mine.authReqId !== body.auth_req_id) return

    const meaning =
      mine.mode === 'ping'
        ? 'Doorbell calls the till: there is a result.'
        : `Doorbell calls the till: ${body.id_token ? 'she agreed, here are the tokens' : (saidBy[String(body.error)] ?? 'there will be no tokens')}.`
    wire.send({
      from: 'doorbell',
      to: 'till',
      method: 'POST',
      path: `/dev/callback/${call.name}`,
      meaning: meaning.replace('..', '.'),
      authorization: call.authorization,
      contentType: call.contentType,
      body: call.body,
    })({ status: call.status })
    if (mine.mode === 'ping') run(mine, redeem(mine))
    else if (body.id_token) run(mine, check(mine, body))
    else refused(mine, body)
  }

  function refused(mine: Ring, body: Json): void {
    if (body.error === 'access_denied') finish(mine, 'refused')
    else if (body.error === 'expired_token') finish(mine, 'expired')
    else finish(mine, 'failed', reasonIn(body))
  }

  /** Believes the signature and nothing else; only then is the sale paid. */
  async function check(mine: Ring, tokens: Json): Promise<void> {
    const asked = wire.send({
      from: 'till',
      to: 'doorbell',
      method: 'GET',
      path: needs.paths.jwks,
      meaning: 'The till fetches the public keys and checks the signature of the ID token.',
    })
    const answer = await needs.send({ method: 'GET', path: needs.paths.jwks, headers: { accept: 'application/json' } })
    asked({ status: answer.status, contentType: 'application/json', body: answer.text })
    const { payload } = await jwtVerify(
      String(tokens.id_token),
      createLocalJWKSet(parse(answer.text) as unknown as JSONWebKeySet),
      {
        issuer: needs.issuer,
        audience: mine.client,
        currentDate: new Date(clock.now()),
        clockTolerance: 60,
      },
    )
    if (mine !== current) return
    const meant = payload['urn:openid:params:jwt:claim:auth_req_id']
    if (mine.mode === 'push' && meant !== mine.authReqId) return finish(mine, 'failed', 'the ID token is for another')
    mine.claims = claimsShown(payload)
    finish(mine, 'paid')
  }

  function finish(mine: Ring, status: Display['status'], detail = ''): void {
    for (const cancel of mine.cancels) cancel()
    Object.assign(mine, { status, detail })
    tell(mine)
  }

  async function post(
    mine: Ring,
    path: string,
    fields: Record<string, string>,
    meaning: string,
    meaningOf: (answer: { status: number; body: Json }) => string | undefined,
  ) {
    const credentials = `${mine.client}:${needs.secretOf(mine.client) ?? ''}`
    const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`
    const body = String(new URLSearchParams(fields))
    const asked = wire.send({
      from: 'till',
      to: 'doorbell',
      method: 'POST',
      path,
      meaning,
      authorization,
      contentType: form,
      body,
    })
    const answer = await needs.send({ method: 'POST', path, headers: { authorization, 'content-type': form }, body })
    const read = { status: answer.status, body: parse(answer.text) }
    const contentType = answer.headers['content-type']
    asked({ status: answer.status, contentType, body: answer.text, meaning: meaningOf(read) })
    return read
  }

  function tell(mine: Ring): void {
    if (mine !== current) return
    for (const heard of listeners) heard(displayOf(mine, clock.now()))
  }

  return {
    ring,
    hear,
    display: () => current && displayOf(current, clock.now()),
    listen(heard) {
      listeners.add(heard)
      return () => listeners.delete(heard)
    },
    stop: drop,
  }
}

const saidBy: Record<string, string> = {
  authorization_pending: 'Not yet.',
  slow_down: 'Not yet, and do not ask so often.',
  access_denied: 'She refused.',
  expired_token: 'Her time ran out.',
}

function displayOf(mine: Ring, now: number): Display {
  const { number, mode, item, amount, status, detail, claims, expiresAt = now } = mine
  const secondsLeft = status === 'waiting' ? Math.max(0, Math.ceil((expiresAt - now) / 1000)) : 0
  return { ring: number, mode, item, amount, status, detail, claims, secondsLeft }
}

/** The claims that answer: who says it, about whom, to whom, and how they know. */
function claimsShown(payload: JWTPayload): Display['claims'] {
  const time = (seconds: unknown) => `${new Date(Number(seconds) * 1000).toISOString().slice(11, 19)} UTC`
  const shown = {
    iss: payload.iss,
    sub: payload.sub,
    aud: payload.aud,
    amr: payload.amr,
    auth_time: payload.auth_time === undefined ? undefined : time(payload.auth_time),
    iat: time(payload.iat),
    auth_req_id: payload['urn:openid:params:jwt:claim:auth_req_id'],
  }
  return Object.entries(shown)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, name === 'auth_req_id' ? shorten(String(value)) : [value].flat().join(', ')])
}

function reasonIn({ error, error_description: description }: Json): string {
  return description === undefined ? String(error ?? 'no reason was given') : String(description)
}

function parse(text: string): Json {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Json) : {}
  } catch {
    return {}
  }
}
