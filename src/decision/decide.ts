/** The user's yes or no, settled exactly once; and the clock's, for those who never answered. */
import {
  type Authentication,
  type AuthenticationRequest,
  isPretended,
  type Status,
  statusAt,
} from '../authentication-request/authentication-request.ts'
import type { RequestStore, SettledStatus } from '../authentication-request/authentication-request-store.ts'
import type { Clock } from '../clock.ts'
import { notificationFor } from '../delivery/delivery-mode.ts'
import type { Log } from '../log.ts'
import type { OutboxStore } from '../outbox/outbox-store.ts'
import { newId, type Vault } from '../secret.ts'
import type { Statement } from '../storage/database.ts'
import type { DecidedBy, Decision, DecisionStore } from './decision-store.ts'

export interface DecisionNeeds {
  requests: RequestStore
  decisions: DecisionStore
  outbox: OutboxStore
  vault: Vault
  clock: Clock
  log: Log
}

export interface Answer {
  requestId: string
  /** The user who answers. It must be the one the request is about (CN-4). */
  userId: string
  outcome: 'approved' | 'denied'
  decidedBy: DecidedBy
  deviceClientId?: string | undefined
  authentication?: Authentication
  reported?: boolean
}

export type DecisionResult =
  | { kind: 'settled'; status: 'approved' | 'denied' }
  /** Unknown, or about another user: the same to whoever asks. */
  | { kind: 'unknown' }
  | { kind: 'expired' }
  /** Somebody was faster, or it is asked twice: what stands is `status`. */
  | { kind: 'already decided'; status: Status }

export type Decide = (answer: Answer) => Promise<DecisionResult>

export function createDecide(needs: DecisionNeeds): Decide {
  return async (answer) => {
    const request = await needs.requests.find(answer.requestId)
    if (request === undefined || request.userId !== answer.userId || isPretended(request)) return { kind: 'unknown' }

    const now = needs.clock.now()
    const decision = toDecision(answer, now)
    const { also, announce } = consequences(request, decision, needs)
    // The read above only prepares: whether the request is still pending is decided in this one step (M22).
    const settlement = {
      userId: answer.userId,
      outcome: answer.outcome,
      settledBy: decision.id,
      now,
      authentication: answer.authentication ?? {},
    }
    const settled = await needs.requests.settle(request.id, settlement, also, announce)
    if (!settled) return explain(await needs.requests.find(request.id), now)

    log(needs.log, request, decision)
    return { kind: 'settled', status: answer.outcome }
  }
}

export type TakeBack = (answer: Pick<Answer, 'requestId' | 'userId' | 'deviceClientId'>) => Promise<boolean>

/**
 * Takes an approval back that nobody has redeemed yet: from then on the client hears that it was denied. Answers
 * whether there was one; if not, there may be tokens to revoke.
 */
export function createTakeBack(needs: DecisionNeeds): TakeBack {
  return async (answer) => {
    const request = await needs.requests.find(answer.requestId)
    if (request === undefined) return false
    const now = needs.clock.now()
    const decision = toDecision({ ...answer, outcome: 'denied', decidedBy: 'user' }, now)
    const by = { userId: answer.userId, settledBy: decision.id, now }
    const taken = await needs.requests.takeBack(request.id, by, [needs.decisions.add(decision, request)])
    if (taken) log(needs.log, request, decision)
    return taken
  }
}

/** Settles one request whose time is over. Answers whether this call did it. */
export async function expire(request: AuthenticationRequest, needs: DecisionNeeds): Promise<boolean> {
  const now = needs.clock.now()
  const decision: Decision = {
    id: newId(now),
    requestId: request.id,
    outcome: 'expired',
    decidedBy: 'clock',
    deviceClientId: undefined,
    reported: false,
    decidedAt: now,
  }
  const { also, announce } = consequences(request, decision, needs)
  const expired = await needs.requests.expire(request.id, decision.id, now, also, announce)
  if (expired) log(needs.log, request, decision)
  return expired
}

/** What is written together with the outcome: the fact, and what the client must be told (decision 6). */
function consequences(request: AuthenticationRequest, decision: Decision, needs: DecisionNeeds) {
  const letter = notificationFor(request, decision.outcome, decision.decidedAt, needs.vault)
  const also: Statement[] = [needs.decisions.add(decision, request)]
  if (letter !== undefined) also.push(needs.outbox.add(letter))
  return { also, announce: letter === undefined ? [] : ['outbox'] }
}

function toDecision(answer: Answer, now: number): Decision {
  return {
    id: newId(now),
    requestId: answer.requestId,
    outcome: answer.outcome,
    decidedBy: answer.decidedBy,
    deviceClientId: answer.deviceClientId,
    reported: answer.reported ?? false,
    decidedAt: now,
    ...answer.authentication,
  }
}

function explain(request: AuthenticationRequest | undefined, now: number): DecisionResult {
  if (request === undefined) return { kind: 'unknown' }
  const status = statusAt(request, now)
  return status === 'expired' ? { kind: 'expired' } : { kind: 'already decided', status }
}

function log(to: Log, request: AuthenticationRequest, decision: Decision): void {
  const outcome: SettledStatus = decision.outcome
  to.info({
    event: `request.${outcome}`,
    request: request.id,
    client: request.clientId,
    decidedBy: decision.decidedBy,
    ...(decision.reported && { reported: true }),
  })
}
