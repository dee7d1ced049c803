/** A model of the states of an authentication request. */
import assert from 'node:assert/strict'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Answer, credentials, type RingingClient, type Stage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import type { Wires } from '../support/wires.ts'

export const { phoneService } = credentials

export type Status = 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'

export interface ModelRequest {
  client: RingingClient
  authReqId: string
  requestId: string
  status: Status
  expiresAt: number
  interval: number
  /** How many polls in a row have kept a lengthened interval. */
  keptPolls: number
  /** The longest interval that this request ever had. */
  longestInterval: number
  lastPolledAt: number | undefined
  /** The settled outcomes, in order. */
  history: string[]
  /** A worker that may have leased this request's message was killed: its deadline may pass before the next attempt. */
  shaken: boolean
}

export interface Model {
  requests: ModelRequest[]
}

export interface Real {
  stage: Stage
  wires: Wires
  heardOf(authReqId: string): string[]
}

/** The deadline decides, whatever the row says (architecture, section 3). */
export function statusAt(request: ModelRequest, now: number): Status {
  const open = request.status === 'pending' || request.status === 'approved'
  return open && now >= request.expiresAt ? 'expired' : request.status
}

/** Returns the expected response of the token endpoint, and applies the poll to the model. */
export function expectPoll(request: ModelRequest, now: number): string {
  if (request.client === 'till') return 'unauthorized_client'
  const status = statusAt(request, now)
  const isFirst = request.lastPolledAt === undefined
  const early = !isFirst && now < request.lastPolledAt! + request.interval * 1000 - toleranceOf(request)
  request.lastPolledAt = now
  switch (status) {
    case 'redeemed':
      return 'invalid_grant'
    case 'expired':
      return 'expired_token'
    case 'denied':
      return 'access_denied'
    case 'approved':
      request.status = 'redeemed'
      return 'tokens'
    case 'pending':
      if (!isFirst) countPoll(request, early)
      return early ? 'slow_down' : 'authorization_pending'
  }
}

/** The tolerance of the interval, in milliseconds: a tenth, but at least half a second. */
const toleranceOf = ({ interval }: ModelRequest) => Math.max(500, interval * 100)

/** Changes the interval: at most 30 seconds, and five seconds again after two polls that have kept it. */
export function countPoll(request: ModelRequest, isEarly: boolean): void {
  if (isEarly) {
    request.interval = Math.min(request.interval + 5, 30)
    request.longestInterval = Math.max(request.longestInterval, request.interval)
    request.keptPolls = 0
  } else if (request.interval > 5) {
    request.keptPolls += 1
    if (request.keptPolls === 2) Object.assign(request, { interval: 5, keptPolls: 0 })
  }
}

/** Returns the expected response to a decision, and applies it to the model. */
export function expectDecision(request: ModelRequest, outcome: 'approved' | 'denied', now: number): string {
  const status = statusAt(request, now)
  if (status === 'expired') return 'expired'
  if (status !== 'pending') return `already_decided: ${status}`
  request.status = outcome
  request.history.push(outcome)
  return outcome
}

export const wordOfPoll = ({ status, body }: Answer) => (status === 200 ? 'tokens' : String(body.error))

export const wordOfDecision = ({ status, body }: Answer) => {
  if (status === 200) return String(body.status)
  return body.error === 'already_decided' ? `already_decided: ${body.status}` : String(body.error)
}

/** A push is sent as soon as the worker finds it; then the request is redeemed. */
export async function deliver(model: Model, { stage }: Real): Promise<void> {
  await stage.doorbell.idle()
  for (const request of model.requests) {
    const handedOver = request.client === 'till' && statusAt(request, stage.clock.now()) === 'approved'
    if (handedOver && !request.shaken) request.status = 'redeemed'
    if (handedOver && request.shaken) await learn(request, stage)
  }
}

/** Reads the state of a request after a crash, when several states are correct. */
export async function learn(request: ModelRequest, stage: Stage): Promise<Status> {
  const form = { login_hint: 'ana', auth_req_id: request.authReqId }
  const { body } = await stage.post('/backchannel/authinfo', form, phoneService)
  request.status = (body.requests as { status: Status }[])[0]!.status
  return request.status
}

/**
 * Poll times are written later than the polls, so a crash loses the latest of them; it never makes an interval longer than
 * it has ever been.
 *
 * @param polled the request whose last poll may or may not have been counted
 */
export async function learnClocks(model: Model, stage: Stage, polled?: ModelRequest): Promise<void> {
  const rows = await rowsOf(
    stage,
    'select id, interval_seconds, kept_polls, last_polled_at from backchannel_auth_requests',
  )
  for (const request of model.requests) {
    const row = rows.find(({ id }) => id === request.requestId)!
    const [longest, lastPolledAt] =
      request === polled
        ? [request.longestInterval + 5, stage.clock.now()]
        : [request.longestInterval, request.lastPolledAt ?? 0]
    assert.ok(Number(row.interval_seconds) <= longest, 'no interval is longer than the client was told')
    assert.ok(Number(row.last_polled_at) <= lastPolledAt, 'no poll is later than it was')
    request.interval = Number(row.interval_seconds)
    request.longestInterval = Math.max(request.longestInterval, request.interval)
    request.keptPolls = Number(row.kept_polls)
    request.lastPolledAt = row.last_polled_at === null ? undefined : Number(row.last_polled_at)
  }
}

type Row = Record<string, string | number | null>

export async function lookUp(stage: Stage, requestId: string) {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  try {
    const read = (sql: string) => database.read<Row>(sql, [requestId])
    const [row] = await read('select * from backchannel_auth_requests where id = $1')
    return {
      row: row!,
      history: await read(
        'select * from backchannel_auth_consent_history where request_id = $1 order by decided_at, outcome',
      ),
      letters: await read("select * from notifications where subject = $1 and kind in ('ping', 'push')"),
    }
  } finally {
    await database.close()
  }
}

/** Adopts the interval in the table, when several intervals are correct. */
export async function learnInterval(request: ModelRequest, stage: Stage): Promise<void> {
  const { row } = await lookUp(stage, request.requestId)
  request.interval = Number(row.interval_seconds)
  request.longestInterval = Math.max(request.longestInterval, request.interval)
  request.keptPolls = Number(row.kept_polls)
}
