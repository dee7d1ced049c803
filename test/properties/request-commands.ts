/** The actions of clients, users, the clock and crashes on authentication requests. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { RingingClient, Stage } from '../support/stage.ts'
import {
  countPoll,
  deliver,
  expectDecision,
  expectPoll,
  learn,
  learnClocks,
  learnInterval,
  type Model,
  type ModelRequest,
  phoneService,
  type Real,
  type Status,
  statusAt,
  wordOfDecision,
  wordOfPoll,
} from './request-model.ts'

type Command = fc.AsyncCommand<Model, Real>

/** A command on one of the existing requests. */
abstract class Move implements Command {
  readonly which: number
  constructor(which: number) {
    this.which = which
  }
  check = (model: Readonly<Model>) => model.requests.length > 0
  run(model: Model, real: Real): Promise<void> {
    return this.move(model.requests[this.which % model.requests.length]!, real, model)
  }
  abstract move(request: ModelRequest, real: Real, model: Model): Promise<void>
}

export class SendRequest implements Command {
  readonly client: RingingClient
  readonly expiry: number
  constructor(client: RingingClient, expiry: number) {
    this.client = client
    this.expiry = expiry
  }
  check = () => true
  async run(model: Model, { stage }: Real): Promise<void> {
    const now = stage.clock.now()
    const response = await stage.ring(this.client, { requested_expiry: String(this.expiry) })
    assert.equal(response.status, 200)
    assert.equal(response.body.expires_in, this.expiry)
    const authReqId = String(response.body.auth_req_id)
    const asked = { login_hint: 'ana', auth_req_id: authReqId }
    const { body } = await stage.post('/backchannel/authinfo', asked, phoneService)
    const [found] = body.requests as { request_id: string; status: string }[]
    assert.equal(found!.status, 'pending')
    model.requests.push({
      client: this.client,
      authReqId,
      requestId: found!.request_id,
      status: 'pending',
      expiresAt: now + this.expiry * 1000,
      interval: 5,
      keptPolls: 0,
      longestInterval: 5,
      lastPolledAt: undefined,
      history: [],
      shaken: false,
    })
  }
  toString = () => `request(${this.client}, ${this.expiry} s)`
}

class Poll extends Move {
  override async move(request: ModelRequest, { stage }: Real): Promise<void> {
    const expected = expectPoll(request, stage.clock.now())
    assert.equal(wordOfPoll(await stage.poll(request.client, request.authReqId)), expected)
  }
  override toString = () => `poll(${this.which})`
}

class PollAsSomebodyElse extends Move {
  override async move(request: ModelRequest, { stage }: Real): Promise<void> {
    const other = request.client === 'kiosk' ? 'northbank' : 'kiosk'
    assert.equal(wordOfPoll(await stage.poll(other, request.authReqId)), 'invalid_grant')
  }
  override toString = () => `pollAsSomebodyElse(${this.which})`
}

class Decide extends Move {
  readonly outcome: 'approved' | 'denied'
  constructor(which: number, outcome: 'approved' | 'denied') {
    super(which)
    this.outcome = outcome
  }
  override async move(request: ModelRequest, real: Real, model: Model): Promise<void> {
    const expected = expectDecision(request, this.outcome, real.stage.clock.now())
    // An approval that is pushed is redeemed as soon as the push is sent.
    const handedOver = expected.replace('approved', 'redeemed')
    const word = wordOfDecision(await real.stage.decide(request.requestId, this.outcome))
    if (request.client !== 'till' || !expected.startsWith('already')) assert.equal(word, expected)
    else assert.ok([expected, handedOver].includes(word), `${word} instead of ${expected}`)
    await deliver(model, real)
  }
  override toString = () => `decide(${this.which}, ${this.outcome})`
}

class DecideAsBen extends Move {
  override async move(request: ModelRequest, { stage }: Real): Promise<void> {
    const answer = await stage.decide(request.requestId, 'approved', { login_hint: 'ben' })
    assert.deepEqual([answer.status, answer.body.error], [404, 'not_found'])
  }
  override toString = () => `decideAsBen(${this.which})`
}

/** Concurrent approvals, denials and polls. */
class Crowd extends Move {
  readonly yes: number
  readonly no: number
  readonly polls: number
  constructor(which: number, yes: number, no: number, polls: number) {
    super(which)
    this.yes = yes
    this.no = no
    this.polls = polls
  }
  override async move(request: ModelRequest, real: Real, model: Model): Promise<void> {
    const { stage } = real
    const before = statusAt(request, stage.clock.now())
    const times = <T>(count: number, what: () => Promise<T>) => Promise.all(Array.from({ length: count }, what))
    const [yes, no, polls] = await Promise.all([
      times(this.yes, () => stage.decide(request.requestId, 'approved')),
      times(this.no, () => stage.decide(request.requestId, 'denied')),
      times(this.polls, () => stage.poll(request.client, request.authReqId)),
    ])
    const decisions = [...yes, ...no].filter(({ status }) => status === 200)
    assert.equal(decisions.length, before === 'pending' && this.yes + this.no > 0 ? 1 : 0)
    if (decisions.length === 1) {
      request.status = decisions[0]!.body.status as Status
      request.history.push(request.status)
    }
    const words = polls.map(wordOfPoll)
    const tokens = words.filter((word) => word === 'tokens').length
    assert.ok(tokens <= 1, 'tokens once')
    if (tokens === 1) {
      assert.equal(request.status, 'approved')
      request.status = 'redeemed'
    } else if (before === 'approved' && request.client !== 'till')
      assert.equal(this.polls, 0, 'one poll gets the tokens')

    const slowed = words.filter((word) => word === 'slow_down').length
    const pending = words.filter((word) => word === 'authorization_pending').length
    if (pending === 1 && request.lastPolledAt !== undefined) countPoll(request, false)
    for (let number = 0; number < slowed; number++) countPoll(request, true)
    assert.ok(pending <= 1, 'at most one poll kept the interval')
    if (before !== 'pending') assert.equal(pending + slowed, 0, 'a result is never hidden by slow_down')
    if (this.polls > 0 && request.client !== 'till') request.lastPolledAt = stage.clock.now()
    await deliver(model, real)
  }
  override toString = () => `crowd(${this.which}, ${this.yes} yes, ${this.no} no, ${this.polls} polls)`
}

class Advance implements Command {
  readonly seconds: number
  constructor(seconds: number) {
    this.seconds = seconds
  }
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    real.stage.clock.advance(this.seconds * 1000)
    await deliver(model, real)
  }
  toString = () => `advance(${this.seconds} s)`
}

class Sweep implements Command {
  check = () => true
  async run(model: Model, { stage }: Real): Promise<void> {
    await stage.doorbell.sweep()
    for (const request of model.requests) {
      if (statusAt(request, stage.clock.now()) === request.status || request.status === 'expired') continue
      request.status = 'expired'
      request.history.push('expired')
    }
  }
  toString = () => 'sweep'
}

/** The process ends during a decision and its consequences, at any of its calls to the database. */
class DieDeciding extends Move {
  readonly outcome: 'approved' | 'denied'
  readonly calls: number
  readonly losing: 'call' | 'answer'
  constructor(which: number, outcome: 'approved' | 'denied', calls: number, losing: 'call' | 'answer') {
    super(which)
    this.outcome = outcome
    this.calls = calls
    this.losing = losing
  }
  override async move(request: ModelRequest, { stage, wires }: Real, model: Model): Promise<void> {
    const before = statusAt(request, stage.clock.now())
    wires.cut(this.calls, this.losing)
    const answer = await stage.decide(request.requestId, this.outcome)
    await stage.restart()
    for (const one of model.requests) one.shaken = true
    await learnClocks(model, stage)

    const after = await learn(request, stage)
    if (answer.status === 200) {
      assert.equal(answer.body.status, this.outcome)
      assert.equal(before, 'pending')
    }
    if (answer.status === 200 || after !== before) {
      const possible = this.outcome === 'approved' && request.client === 'till' ? ['approved', 'redeemed'] : []
      if (before === 'pending') assert.ok([this.outcome, ...possible].includes(after), `${before} → ${after}`)
      else assert.deepEqual([before, after, request.client], ['approved', 'redeemed', 'till'])
    }
    if (before === 'pending' && after !== 'pending') request.history.push(this.outcome)
    if (before === 'expired' && request.history.at(-1) !== 'expired')
      request.status = request.history.length ? 'approved' : 'pending'
  }
  override toString = () =>
    `dieDeciding(${this.which}, ${this.outcome}, ${this.calls} calls later, ${this.losing} lost)`
}

/** The process ends while it issues tokens. */
class DiePolling extends Move {
  readonly calls: number
  readonly losing: 'call' | 'answer'
  constructor(which: number, calls: number, losing: 'call' | 'answer') {
    super(which)
    this.calls = calls
    this.losing = losing
  }
  override check = (model: Readonly<Model>) => model.requests.some(({ client }) => client !== 'till')
  override async move(_: ModelRequest, { stage, wires }: Real, model: Model): Promise<void> {
    const polling = model.requests.filter(({ client }) => client !== 'till')
    const request = polling[this.which % polling.length]!
    const before = statusAt(request, stage.clock.now())
    wires.cut(this.calls, this.losing)
    const word = wordOfPoll(await stage.poll(request.client, request.authReqId))
    await stage.restart()
    for (const one of model.requests) one.shaken = true
    await learnClocks(model, stage, request)
    if (before === 'expired') return this.pollAgain(request, stage)
    const after = await learn(request, stage)
    if (word === 'tokens') assert.deepEqual([before, after], ['approved', 'redeemed'])
    else if (after !== before) assert.deepEqual([before, after], ['approved', 'redeemed'])
    return this.pollAgain(request, stage)
  }
  /** It is unknown whether the poll was counted before the process ended; much later this has no effect. */
  async pollAgain(request: ModelRequest, stage: Stage): Promise<void> {
    const word = wordOfPoll(await stage.poll(request.client, request.authReqId))
    const now = stage.clock.now()
    if (word === 'slow_down') {
      const form = { login_hint: 'ana', auth_req_id: request.authReqId }
      assert.equal((await stage.post('/backchannel/authinfo', form, phoneService)).status, 200)
      // One or two early polls: the model adopts the interval in the table, once it is stored.
      await stage.doorbell.idle()
      await learnInterval(request, stage)
      request.lastPolledAt = now
    } else assert.equal(word, expectPoll(request, now))
  }
  override toString = () => `diePolling(${this.which}, ${this.calls} calls later, ${this.losing} lost)`
}

class Restart implements Command {
  check = () => true
  run = (_: Model, { stage }: Real) => stage.restart()
  toString = () => 'restart'
}

const which = fc.nat(20)
const outcome = fc.constantFrom('approved' as const, 'denied' as const)
const losing = fc.constantFrom('call' as const, 'answer' as const)
const few = fc.nat(4)
/** Seconds. */
export const expiry = fc.constantFrom(7, 60, 600)

export const commands = fc.commands(
  [
    fc
      .tuple(fc.constantFrom('kiosk' as const, 'northbank' as const, 'till' as const), expiry)
      .map(([client, expiry]) => new SendRequest(client, expiry)),
    which.map((number) => new Poll(number)),
    which.map((number) => new Poll(number)),
    which.map((number) => new PollAsSomebodyElse(number)),
    fc.tuple(which, outcome).map(([number, word]) => new Decide(number, word)),
    which.map((number) => new DecideAsBen(number)),
    fc.tuple(which, few, few, few).map((numbers) => new Crowd(...numbers)),
    fc.constantFrom(1, 4, 5, 11, 61).map((seconds) => new Advance(seconds)),
    fc.constant(new Sweep()),
    fc.tuple(which, outcome, fc.nat(12), losing).map((how) => new DieDeciding(...how)),
    fc.tuple(which, fc.nat(8), losing).map((how) => new DiePolling(...how)),
    fc.constant(new Restart()),
  ],
  { maxCommands: 25, size: 'max' },
)
