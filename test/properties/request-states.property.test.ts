/**
 * The states of an authentication request (architecture, section 3), against a model of them: whatever clients, users,
 * the clock and crashes do in whatever order, each answer is the one that the model gives, and in the end everybody was
 * told what they should have been told.
 *
 *     DOORBELL_TEST_RUNS=1000 npm test -- test/properties      more of it
 *     DOORBELL_TEST_SEED=…                                    a failure prints its seed; this repeats it
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../cast/engines.ts'
import { openNotificationEndpoint } from '../cast/notification-endpoint.ts'
import { type Answer, credentials, openStage, type RingingClient, type Stage } from '../cast/stage.ts'
import { rowsOf } from '../cast/tables.ts'
import { createWires, type Wires } from '../cast/wires.ts'

const { phoneService } = credentials

const numRuns = Number(process.env.DOORBELL_TEST_RUNS ?? 40)

const seed = process.env.DOORBELL_TEST_SEED === undefined ? {} : { seed: Number(process.env.DOORBELL_TEST_SEED) }
/** Milliseconds for the search for a shorter sequence that fails too. */
const patience = process.env.DOORBELL_TEST_RUNS === undefined ? { interruptAfterTimeLimit: 120_000 } : {}

type Status = 'pending' | 'approved' | 'denied' | 'expired' | 'redeemed'

interface ModelRequest {
  client: RingingClient
  authReqId: string
  requestId: string
  status: Status
  expiresAt: number
  interval: number
  lastPolledAt: number | undefined
  /** What was settled, in order. */
  history: string[]
  /** A worker died when this one may have been in its hands: then its deadline may come before its next attempt. */
  shaken: boolean
}

interface Model {
  requests: ModelRequest[]
}

interface Real {
  stage: Stage
  wires: Wires
  heardOf(authReqId: string): string[]
}

/** What counts is the deadline, whatever the row says (architecture, section 3). */
function statusAt(request: ModelRequest, now: number): Status {
  const open = request.status === 'pending' || request.status === 'approved'
  return open && now >= request.expiresAt ? 'expired' : request.status
}

/** The answer of the token endpoint, and what the poll does to the model. */
function expectPoll(request: ModelRequest, now: number): string {
  if (request.client === 'till') return 'unauthorized_client'
  const status = statusAt(request, now)
  const early = request.lastPolledAt !== undefined && now < request.lastPolledAt + request.interval * 1000
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
      if (early) request.interval += 5
      return early ? 'slow_down' : 'authorization_pending'
  }
}

/** The answer to a decision, and what it does to the model. */
function expectDecision(request: ModelRequest, outcome: 'approved' | 'denied', now: number): string {
  const status = statusAt(request, now)
  if (status === 'expired') return 'expired'
  if (status !== 'pending') return `already_decided: ${status}`
  request.status = outcome
  request.history.push(outcome)
  return outcome
}

const wordOfPoll = ({ status, body }: Answer) => (status === 200 ? 'tokens' : String(body.error))

const wordOfDecision = ({ status, body }: Answer) => {
  if (status === 200) return String(body.status)
  return body.error === 'already_decided' ? `already_decided: ${body.status}` : String(body.error)
}

/** A push is handed over as soon as the worker comes to it; then the request is redeemed. */
async function deliver(model: Model, { stage }: Real): Promise<void> {
  await stage.doorbell.idle()
  for (const request of model.requests) {
    const handedOver = request.client === 'till' && statusAt(request, stage.clock.now()) === 'approved'
    if (handedOver && !request.shaken) request.status = 'redeemed'
    if (handedOver && request.shaken) await learn(request, stage)
  }
}

/** After a crash the model asks what became of a request: several things are right. */
async function learn(request: ModelRequest, stage: Stage): Promise<Status> {
  const form = { login_hint: 'ana', auth_req_id: request.authReqId }
  const { body } = await stage.post('/backchannel/authinfo', form, phoneService)
  request.status = (body.requests as { status: Status }[])[0]!.status
  return request.status
}

/**
 * The clock of the polls is written behind, so a process that dies takes the last of it along: it never makes it stricter.
 *
 * @param polled of which nobody knows whether its last poll was counted
 */
async function learnClocks(model: Model, stage: Stage, polled?: ModelRequest): Promise<void> {
  const rows = await rowsOf(stage, 'select id, interval_seconds, last_polled_at from backchannel_auth_requests')
  for (const request of model.requests) {
    const row = rows.find(({ id }) => id === request.requestId)!
    const [interval, lastPolledAt] =
      request === polled ? [request.interval + 5, stage.clock.now()] : [request.interval, request.lastPolledAt ?? 0]
    assert.ok(Number(row.interval_seconds) <= interval, 'no interval is longer than the client was told')
    assert.ok(Number(row.last_polled_at) <= lastPolledAt, 'no poll is later than it was')
    request.interval = Number(row.interval_seconds)
    request.lastPolledAt = row.last_polled_at === null ? undefined : Number(row.last_polled_at)
  }
}

type Command = fc.AsyncCommand<Model, Real>

/** A move on one of the requests there are. */
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

class Ring implements Command {
  readonly client: RingingClient
  readonly expiry: number
  constructor(client: RingingClient, expiry: number) {
    this.client = client
    this.expiry = expiry
  }
  check = () => true
  async run(model: Model, { stage }: Real): Promise<void> {
    const now = stage.clock.now()
    const rung = await stage.ring(this.client, { requested_expiry: String(this.expiry) })
    assert.equal(rung.status, 200)
    assert.equal(rung.body.expires_in, this.expiry)
    const authReqId = String(rung.body.auth_req_id)
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
      lastPolledAt: undefined,
      history: [],
      shaken: false,
    })
  }
  toString = () => `ring(${this.client}, ${this.expiry} s)`
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
    // An approval that is to be pushed is redeemed as soon as it is handed over.
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

/** Everybody at once: some say yes, some say no, some poll. */
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
    } else if (before === 'approved' && request.client !== 'till') assert.equal(this.polls, 0, 'somebody gets them')

    const slowed = words.filter((word) => word === 'slow_down').length
    const pending = words.filter((word) => word === 'authorization_pending').length
    request.interval += 5 * slowed
    assert.ok(pending <= 1, 'one at most was in time')
    if (before !== 'pending') assert.equal(pending + slowed, 0, 'a ready answer is not hidden')
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

/** The process dies in the middle of a decision and of what follows from it, at any of its calls to the database. */
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

/** The process dies in the middle of handing out tokens. */
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
  /** Whether the poll was counted before the process died is open; much later it does not matter any more. */
  async pollAgain(request: ModelRequest, stage: Stage): Promise<void> {
    const word = wordOfPoll(await stage.poll(request.client, request.authReqId))
    const now = stage.clock.now()
    if (word === 'slow_down') {
      const form = { login_hint: 'ana', auth_req_id: request.authReqId }
      assert.equal((await stage.post('/backchannel/authinfo', form, phoneService)).status, 200)
      // Once or twice too early: the model takes over the interval that the table has, once it has it.
      await stage.doorbell.idle()
      request.interval = await intervalOf(stage, request.requestId)
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
const expiry = fc.constantFrom(7, 60, 600)

const commands = fc.commands(
  [
    fc
      .tuple(fc.constantFrom('kiosk' as const, 'northbank' as const, 'till' as const), expiry)
      .map(([client, expiry]) => new Ring(client, expiry)),
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

for (const engine of engines) {
  test(`whatever happens in whatever order, the answers are those of the model, on ${engine.name}`, async (t) => {
    const endpoint = await openNotificationEndpoint(t)
    const wires = createWires()
    const stage = await openStage(t, {
      engine,
      northbank: endpoint.url,
      till: endpoint.url,
      // Sweeps happen when the model says so.
      config: { logLevel: 'silent' },
      parts: { openDatabase: wires.open, log: createLog('silent') },
    })
    const real: Real = {
      stage,
      wires,
      heardOf: (authReqId) =>
        endpoint.heard.filter(({ body }) => body.auth_req_id === authReqId).map(({ text }) => text),
    }
    let told = 0
    let made = 0
    await fc.assert(
      fc.asyncProperty(fc.tuple(expiry, expiry, expiry), commands, async ([poll, ping, push], sequence) => {
        const model: Model = { requests: [] }
        await new Ring('kiosk', poll).run(model, real)
        await new Ring('northbank', ping).run(model, real)
        await new Ring('till', push).run(model, real)
        await fc.asyncModelRun(() => ({ model, real }), sequence)
        await settleEverything(stage)
        for (const request of model.requests) await checkInTheEnd(request, real)
        made += model.requests.length
        told += model.requests.filter(({ authReqId }) => real.heardOf(authReqId).length > 0).length
        endpoint.heard.length = 0
      }),
      { numRuns, ...seed, ...patience },
    )
    t.diagnostic(`${numRuns} runs, ${made} requests, ${told} clients told`)
  })
}

/** Leases end, then time is up for everything that is open, and the last letters go out. */
async function settleEverything(stage: Stage): Promise<void> {
  await stage.doorbell.idle()
  stage.clock.advance(5_000)
  // Whoever is told that time ran out is told now: ten minutes from now it would be too late.
  await stage.doorbell.sweep()
  await stage.doorbell.idle()
  stage.clock.advance(700_000)
  await stage.doorbell.sweep()
  await stage.doorbell.idle()
  stage.clock.advance(5_000)
  await stage.doorbell.idle()
}

async function checkInTheEnd(request: ModelRequest, { stage, heardOf }: Real): Promise<void> {
  const { row, history, letters } = await lookUp(stage, request.requestId)
  const heard = heardOf(request.authReqId)
  const said = heard.map((text) => JSON.parse(text) as Record<string, unknown>)
  assert.equal(new Set(heard).size <= 1, true, 'every attempt said the same')

  const decided = request.history.find((word) => word !== 'expired')
  const outcomes = history.map((fact) => fact.outcome)
  const status = row.status as Status
  const expected = decided === undefined ? ['expired'] : status === 'expired' ? [decided, 'expired'] : [decided]
  assert.deepEqual(outcomes, expected)
  if (decided === undefined) assert.equal(status, 'expired')
  if (decided === 'denied') assert.equal(status, 'denied')
  if (decided === 'approved') assert.ok(status === 'redeemed' || status === 'expired')
  if (request.client !== 'till' && request.status === 'redeemed') assert.equal(status, 'redeemed')

  assert.equal(row.call_back_sealed, null)
  for (const letter of letters) {
    assert.ok(letter.state === 'delivered' || letter.state === 'parked', String(letter.state))
    assert.equal(letter.lease, null)
    if (letter.state === 'delivered') assert.equal(letter.sealed, null)
    else assert.ok(request.shaken, `parked without a crash: ${letter.last_outcome}`)
  }
  const parked = letters.some(({ state }) => state === 'parked')

  if (request.client === 'kiosk') assert.deepEqual(heard, [])
  if (request.client === 'northbank') {
    for (const body of said) assert.deepEqual(body, { auth_req_id: request.authReqId })
    if (decided === undefined) assert.deepEqual(heard, [], 'nobody is pinged because time ran out')
    else assert.ok(heard.length > 0 || parked)
    if (!request.shaken && decided !== undefined) assert.equal(heard.length, 1)
  }
  if (request.client === 'till') {
    assert.ok(heard.length > 0 || parked, 'a push client is told everything')
    const word = { denied: 'access_denied', expired: 'expired_token', redeemed: undefined }[status as 'denied']
    for (const body of said) {
      assert.equal(body.error, word)
      assert.equal(typeof body.access_token, word === undefined ? 'string' : 'undefined')
    }
    if (status === 'expired') assert.ok(heard.length > 0, 'there is time enough to tell that time ran out')
  }
}

type Row = Record<string, string | number | null>

async function lookUp(stage: Stage, requestId: string) {
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

async function intervalOf(stage: Stage, requestId: string): Promise<number> {
  return Number((await lookUp(stage, requestId)).row.interval_seconds)
}
