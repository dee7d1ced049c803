/** The worker serves tea. It knows nothing else, which shows that the outbox knows no CIBA. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createStageClock } from '../../test/cast/clock.ts'
import { countByState, newLetter, post, roomFor } from '../../test/cast/rows.ts'
import { until } from '../../test/cast/until.ts'
import { createAudit } from '../platform/audit.ts'
import { createLog } from '../platform/log.ts'
import type { Database } from '../platform/storage/database.ts'
import { migrate } from '../platform/storage/migrate.ts'
import { openSqlite } from '../platform/storage/sqlite.ts'
import type { Send } from './delivery.ts'
import type { Letter, Outcome } from './notification.ts'
import { createOutboxStore } from './outbox-store.ts'
import { createOutboxWorker, type OutboxWorker } from './outbox-worker.ts'

const drunk: Outcome = { kind: 'delivered', words: 'drunk' }
const spilt: Outcome = { kind: 'failed', words: 'spilt' }

test('what is there at the start is sent, and what is added later at once', async (t) => {
  const { table, worker, served, outbox } = await teaRoom(t)
  await post(table, tea(), tea())
  worker.start()
  await worker.idle()
  assert.equal(served.length, 2)
  await post(table, tea())
  await worker.idle()
  assert.equal(served.length, 3)
  assert.deepEqual(await countByState(table), { waiting: 0, sending: 0, delivered: 3, parked: 0 })
  assert.equal((await outbox.find(served[0]!.id))!.lastOutcome, 'drunk')
})

test('what is added in silence is found on the next patrol', async (t) => {
  const { table, worker, served, clock, outbox } = await teaRoom(t)
  worker.start()
  await worker.idle()
  await table.step({ sql: 'select 1 as one', values: [] }, { also: [outbox.add(tea())] })
  clock.advance(2_000)
  await until(() => served.length === 1)
})

test('a failed attempt is made again after growing pauses, until it succeeds', async (t) => {
  const { table, worker, served, clock, outbox, serve } = await teaRoom(t)
  serve(spilt, spilt, spilt, drunk)
  const letter = tea()
  await post(table, letter)
  worker.start()
  for (const [before, pause] of [
    [1, 500],
    [2, 1000],
    [3, 2000],
  ] as const) {
    await worker.idle()
    assert.equal(served.length, before)
    const { state, attempts, dueAt, lastOutcome } = (await outbox.find(letter.id))!
    assert.deepEqual([state, attempts, lastOutcome], ['waiting', before, 'spilt'])
    assert.ok(dueAt - clock.now() >= pause / 2 && dueAt - clock.now() <= pause)
    // The worker set its alarm for that very moment: nobody nudges it.
    clock.advance(dueAt - clock.now() - 1)
    await worker.idle()
    assert.equal(served.length, before)
    clock.advance(10)
    await until(() => served.length === before + 1)
  }
  await worker.idle()
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
})

test('what is refused, has used up its attempts or its time, or is of an unknown kind is parked, with the reason', async (t) => {
  const { table, worker, clock, outbox, serve, served, logLines } = await teaRoom(t, { attempts: 2 })
  const reasonOf = async (letter: Letter) => {
    const { state, lastOutcome } = (await outbox.find(letter.id))!
    return [state, lastOutcome]
  }
  worker.start()

  const [refused, spiltTwice, late, coffee] = [tea(), tea(), tea({ giveUpAt: start }), tea({ kind: 'coffee' })]
  serve({ kind: 'refused', words: 'too cold' })
  await post(table, refused!)
  await worker.idle()
  assert.deepEqual(await reasonOf(refused!), ['parked', 'too cold'])

  serve(spilt)
  await post(table, spiltTwice!)
  await worker.idle()
  clock.advance(500)
  await worker.idle()
  assert.deepEqual(await reasonOf(spiltTwice!), ['parked', 'spilt; all 2 attempts used'])

  const before = served.length
  await post(table, late!, coffee!)
  await worker.idle()
  assert.deepEqual(await reasonOf(late!), ['parked', 'its time is over'])
  assert.deepEqual(await reasonOf(coffee!), ['parked', 'nothing here sends the kind coffee'])
  assert.equal(served.length, before, 'nobody was bothered with them')
  assert.equal(logLines.filter((line) => line.includes('notification.parked')).length, 4)
})

test('a sender that throws has failed, and is tried again; the log tells', async (t) => {
  const { table, worker, clock, outbox, serve, logLines } = await teaRoom(t)
  serve(() => Promise.reject(new Error('the kettle is broken')), drunk)
  const letter = tea()
  await post(table, letter)
  worker.start()
  await worker.idle()
  const { state, lastOutcome } = (await outbox.find(letter.id))!
  assert.deepEqual([state, lastOutcome], ['waiting', 'an error on our side'])
  assert.ok(logLines.some((line) => line.includes('the kettle is broken')))
  clock.advance(1000)
  await worker.idle()
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
})

test('a lane that hangs holds up only its own, and never gets more than its share', async (t) => {
  const { table, worker, served, serve } = await teaRoom(t)
  const opened = Promise.withResolvers<void>()
  let hanging = 0
  let most = 0
  serve(async (letter) => {
    if (letter.lane !== 'ben') return drunk
    hanging += 1
    most = Math.max(most, hanging)
    await opened.promise
    hanging -= 1
    return drunk
  })
  worker.start()
  // One at a time, so that each look finds a lane with something under way already.
  for (let number = 0; number < 10; number++) {
    await post(table, tea({ lane: 'ben' }), tea({ lane: 'ana' }))
    await until(() => served.filter(({ lane }) => lane === 'ana').length === number + 1)
  }
  await until(async () => (await countByState(table)).delivered === 10)
  assert.deepEqual([hanging, most], [4, 4])
  opened.resolve()
  await worker.idle()
  assert.deepEqual(await countByState(table), { waiting: 0, sending: 0, delivered: 20, parked: 0 })
})

test('three that hang and four that come: still four at once', async (t) => {
  const { table, worker, serve, outbox } = await teaRoom(t)
  const opened = Promise.withResolvers<void>()
  let hanging = 0
  serve(async () => {
    hanging += 1
    await opened.promise
    return drunk
  })
  worker.start()
  await post(table, tea(), tea(), tea())
  await until(() => hanging === 3)
  await post(table, tea(), tea(), tea(), tea())
  await until(() => hanging === 4)
  // The next look begins after the last one ended: by the time another lane is served, it has been over.
  const other = tea({ lane: 'ben' })
  await post(table, other)
  await until(async () => (await outbox.find(other.id))!.state === 'sending')
  assert.equal((await countByState(table)).waiting, 3)
  opened.resolve()
  await worker.idle()
  assert.equal(hanging, 8)
})

test('who takes well gets more at once, sixteen at most, and four again after a failure', async (t) => {
  const { table, worker, serve } = await teaRoom(t)
  let atOnce = 0
  let most = 0
  const slowly = (outcome: Outcome) => async () => {
    atOnce += 1
    most = Math.max(most, atOnce)
    for (let turns = 0; turns < 20; turns++) await turn()
    atOnce -= 1
    return outcome
  }
  serve(slowly(drunk))
  await post(table, ...Array.from({ length: 200 }, () => tea()))
  worker.start()
  await worker.idle()
  assert.equal(most, 16)

  serve(slowly(spilt))
  await post(table, tea())
  await worker.idle()
  most = 0
  await post(table, ...Array.from({ length: 40 }, () => tea()))
  await worker.idle()
  assert.equal(most, 4)
})

test('a kind that hangs, whoever it is for, holds up no other kind', async (t) => {
  const { table, worker, served, serve, outbox } = await teaRoom(t)
  const opened = Promise.withResolvers<Outcome>()
  serve(() => opened.promise)
  await post(table, ...Array.from({ length: 700 }, (_, number) => tea({ lane: `lane ${number}` })))
  worker.start()
  await until(() => served.length === 64)
  // It comes after more than are looked at.
  const milk = tea({ kind: 'milk' })
  await post(table, milk)
  await until(async () => (await outbox.find(milk.id))!.state === 'delivered')
  assert.equal(served.length, 64)
  opened.resolve(drunk)
  await worker.idle()
  assert.equal(served.length, 700)
})

test('what is posted is sent as soon as it is kept, and nobody has to look for it', async (t) => {
  const { table, worker, served, outbox, claims } = await teaRoom(t)
  worker.start()
  await worker.idle()
  const before = claims()
  const letters = [tea(), tea({ lane: 'ben' })]
  let rowsWhenKept: unknown
  const happened = await worker.enqueue(letters, async (adding, topics) => {
    assert.deepEqual(topics, [], 'no other node needs to hear of it')
    const rows = await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    rowsWhenKept = (await outbox.list(undefined)).map(({ state, attempts, dueAt }) => [state, attempts, dueAt])
    return rows.length > 0
  })
  assert.equal(happened, true)
  // Taken on already: if this process ended now, another would take over at the end of the lease.
  assert.deepEqual(rowsWhenKept, [
    ['sending', 1, start + 3000],
    ['sending', 1, start + 3000],
  ])
  await until(async () => (await countByState(table)).delivered === 2)
  assert.equal(claims(), before)
  assert.deepEqual(served.map(({ id }) => id).sort(), letters.map(({ id }) => id).sort())
})

test('what was not kept, because its step did not happen or failed, is not sent and takes no room', async (t) => {
  const { table, worker, served } = await teaRoom(t)
  worker.start()
  for (let times = 0; times < 10; times++) {
    assert.equal(await worker.enqueue([tea()], async () => false), false)
    await assert.rejects(
      worker.enqueue([tea()], () => Promise.reject(new Error('no step'))),
      /no step/,
    )
  }
  await worker.idle()
  assert.equal(served.length, 0)
  await postFour(worker, table)
  await until(() => served.length === 4)
})

test('what there is no room for waits, and what comes later does not pass it by', async (t) => {
  const { table, worker, served, serve, outbox, fail, logLines } = await teaRoom(t)
  const [first, others] = [Promise.withResolvers<Outcome>(), Promise.withResolvers<Outcome>()]
  serve(
    () => first.promise,
    () => others.promise,
  )
  worker.start()
  await worker.idle()
  await postFour(worker, table)
  await until(() => served.length === 4)
  const fifth = tea()
  assert.deepEqual(await postOne(worker, table, fifth), ['outbox'])
  assert.equal((await outbox.find(fifth.id))!.state, 'waiting')
  // Somebody else of the same kind has room.
  assert.deepEqual(await postOne(worker, table, tea({ lane: 'ben' })), [])
  await until(() => served.length === 5)

  // There is room again, and whom it is for has not been seen yet.
  fail(1)
  first.resolve(drunk)
  await until(() => logLines.some((line) => line.includes('outbox.look_failed')))
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  others.resolve(drunk)
  await worker.idle()
  assert.equal(served.length, 7)
  // Nobody is before them any more.
  assert.deepEqual(await postOne(worker, table, tea()), [])
})

test('whoever takes slowly, though well, gets no more than four at once', async (t) => {
  const { table, worker, serve, clock } = await teaRoom(t)
  let atOnce = 0
  let most = 0
  serve(async () => {
    atOnce += 1
    most = Math.max(most, atOnce)
    await turn()
    clock.advance(600)
    await turn()
    atOnce -= 1
    return drunk
  })
  await post(table, ...Array.from({ length: 40 }, () => tea()))
  worker.start()
  await worker.idle()
  assert.equal(most, 4)
})

test('a step that took long leaves too little of the lease: the letter is taken on anew, and sent once', async (t) => {
  const { table, worker, served, clock, outbox } = await teaRoom(t)
  worker.start()
  await worker.idle()
  const letter = tea()
  await worker.enqueue([letter], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    clock.advance(2001)
    return true
  })
  await worker.idle()
  assert.equal(served.length, 0)
  clock.advance(1000)
  await worker.idle()
  await until(async () => (await outbox.find(letter.id))!.state === 'delivered')
  assert.deepEqual(
    served.map(({ attempts }) => attempts),
    [2],
  )
})

test('while its whole kind is full, a lane without any before it waits as well, and is not passed by', async (t) => {
  const { table, worker, served, serve, fail, logLines } = await teaRoom(t)
  const [first, others] = [Promise.withResolvers<Outcome>(), Promise.withResolvers<Outcome>()]
  serve(
    () => first.promise,
    () => others.promise,
  )
  await post(table, ...Array.from({ length: 64 }, (_, number) => tea({ lane: `lane ${number}` })))
  worker.start()
  await until(() => served.length === 64)
  const waiting = tea({ lane: 'ben' })
  assert.deepEqual(await postOne(worker, table, waiting), ['outbox'])
  fail(1)
  first.resolve(drunk)
  await until(() => logLines.some((line) => line.includes('outbox.look_failed')))
  assert.deepEqual(await postOne(worker, table, tea({ lane: 'zoe' })), ['outbox'], 'Ben comes before')
  assert.deepEqual(await postOne(worker, table, tea({ kind: 'milk', lane: 'zoe' })), [], 'of another kind')
  others.resolve(drunk)
  await worker.idle()
  assert.deepEqual(await postOne(worker, table, tea({ lane: 'zoe' })), [])
})

test('nobody is idle while a step is under way that may add something', async (t) => {
  const { worker, table, served } = await teaRoom(t)
  worker.start()
  const kept = Promise.withResolvers<boolean>()
  const posted = worker.enqueue([tea()], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    return kept.promise
  })
  let idle = false
  const waiting = worker.idle().then(() => {
    idle = true
  })
  for (let turns = 0; turns < 10; turns++) await turn()
  assert.equal(idle, false)
  kept.resolve(true)
  await Promise.all([posted, waiting])
  assert.equal(served.length, 1)
})

test('nobody works here, or not any more: what is posted waits for others', async (t) => {
  const { table, worker, served, outbox } = await teaRoom(t)
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  worker.start()
  await worker.idle()
  assert.equal(served.length, 1)

  // It ends while a step is under way.
  const kept = Promise.withResolvers<boolean>()
  const letter = tea()
  const posted = worker.enqueue([letter], async (adding) => {
    await table.step({ sql: 'select 1 as one', values: [] }, { also: adding })
    return kept.promise
  })
  let stopped = false
  const stopping = worker.stop().then(() => {
    stopped = true
  })
  await turn()
  assert.equal(stopped, false)
  kept.resolve(true)
  await Promise.all([posted, stopping])
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
  assert.deepEqual(await postOne(worker, table, tea()), ['outbox'])
  assert.equal((await countByState(table)).waiting, 1)
})

test('no more than sixty-four are sent at once, and all are sent in the end', async (t) => {
  const { table, worker, serve } = await teaRoom(t)
  let atOnce = 0
  let most = 0
  serve(async () => {
    atOnce += 1
    most = Math.max(most, atOnce)
    await new Promise((resolve) => setImmediate(resolve))
    atOnce -= 1
    return drunk
  })
  await post(table, ...Array.from({ length: 300 }, (_, number) => tea({ lane: `lane ${number % 50}` })))
  worker.start()
  await worker.idle()
  assert.ok(most <= 64, `${most} at once`)
  assert.equal((await countByState(table)).delivered, 300)
})

test('stopping waits for what is being sent', async (t) => {
  const { table, worker, serve, outbox } = await teaRoom(t)
  const poured = Promise.withResolvers<Outcome>()
  const begun = Promise.withResolvers<void>()
  serve(() => {
    begun.resolve()
    return poured.promise
  })
  const letter = tea()
  await post(table, letter)
  worker.start()
  await begun.promise
  const stopped = Promise.all([worker.stop(), worker.stop()])
  await post(table, tea())
  poured.resolve(drunk)
  await stopped
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
  assert.equal((await countByState(table)).waiting, 1, 'what came later is left to others')
})

test('what is not sent within the grace is handed back, as if it had never been taken on', async (t) => {
  const { table, worker, serve, outbox, clock } = await teaRoom(t)
  const begun = Promise.withResolvers<void>()
  serve((_, signal) => {
    begun.resolve()
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })
  const letter = tea()
  await post(table, letter)
  worker.start()
  await begun.promise
  const stopped = worker.stop(3000)
  // The alarm of the grace is set after the last look: it rings as soon as it is there.
  let over = false
  stopped.then(() => {
    over = true
  })
  await until(() => {
    clock.advance(1000)
    return over
  })
  const { state, attempts, lease } = (await outbox.find(letter.id))!
  assert.deepEqual([state, attempts, lease], ['waiting', 0, undefined])

  serve(async (_, signal) => (signal.aborted ? spilt : drunk))
  worker.start()
  await worker.idle()
  assert.equal(
    (await outbox.find(letter.id))!.state,
    'delivered',
    'it can be started again, and nobody is stopped then',
  )
})

test('starting twice is starting once, and stopping ends it', async (t) => {
  const { table, worker, served, listeners } = await teaRoom(t)
  worker.start()
  worker.start()
  await worker.idle()
  assert.equal(listeners(), 1)
  await worker.stop()
  await worker.stop()
  assert.equal(listeners(), 0)
  await post(table, tea())
  worker.nudge()
  await worker.idle()
  assert.equal(served.length, 0)
})

test('a database that fails is asked again, and nobody is told that there is nothing to do', async (t) => {
  const { table, worker, served, clock, logLines, fail } = await teaRoom(t)
  await post(table, tea())
  fail(2)
  let idle = false
  worker.start()
  worker.idle().then(() => {
    idle = true
  })
  await until(() => logLines.filter((line) => line.includes('outbox.look_failed')).length > 0)
  await turn()
  assert.equal(idle, false)
  await until(() => {
    clock.advance(2_000)
    return served.length === 1
  })
  await until(() => idle)
})

test('an outcome that cannot be written down is made up for after the lease', async (t) => {
  const { table, worker, served, clock, logLines, outbox, failWriting } = await teaRoom(t)
  const letter = tea()
  await post(table, letter)
  failWriting(1)
  worker.start()
  await until(() => logLines.some((line) => line.includes('outbox.record_failed')))
  await worker.idle()
  assert.equal((await outbox.find(letter.id))!.state, 'sending')
  clock.advance(1000 + 2000 - 1)
  await worker.idle()
  assert.equal(served.length, 1)
  clock.advance(1 + 10)
  await until(() => served.length === 2)
  await worker.idle()
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
})

test('whoever stood still while the lease ended says nothing: another worker knows more', async (t) => {
  const { table, worker, served, serve, clock, logLines, outbox } = await teaRoom(t, { attempts: 1 })
  const letter = tea()
  serve(async () => {
    const claim = { now: clock.now() + 3000, leaseUntil: clock.now() + 6000, lease: 'of another', room: roomFor() }
    const [taken] = await outbox.claimDue(claim)
    await outbox.delivered(taken!, 'answered 204', clock.now())
    return { kind: 'failed', words: 'timeout' }
  })
  await post(table, letter)
  worker.start()
  await worker.idle()
  assert.equal(served.length, 1)
  assert.equal((await outbox.find(letter.id))!.state, 'delivered')
  assert.deepEqual(
    logLines.filter((line) => line.includes('notification.parked')),
    [],
  )
})

const start = 1_700_000_000_000
const tea = (more: Parameters<typeof newLetter>[1] = {}) => newLetter(start, more)

/** A worker that serves tea, on a table of its own. Everything is drunk, unless told. */
async function teaRoom(t: TestContext, { attempts = 8 } = {}) {
  const clock = createStageClock(start)
  const logLines: string[] = []
  const log = createLog('debug', { write: (line) => void logLines.push(line) })
  const table: Database = openSqlite(':memory:')
  await migrate(table, clock)
  const outbox = createOutboxStore(table)

  let claims = 0
  let failures = 0
  let writingFailures = 0
  const unreliable: typeof outbox = {
    ...outbox,
    claimDue(claim) {
      claims += 1
      return failures-- > 0 ? Promise.reject(new Error('no table')) : outbox.claimDue(claim)
    },
    delivered: (...report) =>
      writingFailures-- > 0 ? Promise.reject(new Error('no pen')) : outbox.delivered(...report),
  }

  const served: Letter[] = []
  let manners: (Outcome | Send)[] = [drunk]
  const listeners = new Set<object>()
  const pour: Send = async (letter, signal) => {
    served.push(letter)
    const manner = manners.length > 1 ? manners.shift()! : manners[0]!
    return typeof manner === 'function' ? manner(letter, signal) : manner
  }
  const worker = createOutboxWorker({
    outbox: unreliable,
    attempts,
    timeout: 1000,
    onNews(heard) {
      const stop = table.listen('outbox', heard)
      listeners.add(stop)
      return () => {
        listeners.delete(stop)
        stop()
      }
    },
    clock,
    log,
    audit: createAudit({ clock, log, hearers: [] }),
  })
  t.after(async () => {
    await worker.stop()
    await table.close()
  })
  return {
    clock,
    table,
    outbox,
    worker: { ...worker, start: () => worker.start({ tea: { send: pour }, milk: { send: async () => drunk } }) },
    served,
    logLines,
    claims: () => claims,
    listeners: () => listeners.size,
    serve: (...next: (Outcome | Send)[]) => {
      manners = next
    },
    fail: (times: number) => {
      failures = times
    },
    failWriting: (times: number) => {
      writingFailures = times
    },
  }
}

/** Posts in a step that does nothing else. @returns the topics it was to announce */
async function postOne(worker: Pick<OutboxWorker, 'enqueue'>, table: Database, letter: Letter): Promise<string[]> {
  let announced: string[] = []
  await worker.enqueue([letter], async (adding, topics) => {
    announced = topics
    const announce = topics.map((topic) => ({ topic, key: letter.id }))
    return (await table.step({ sql: 'select 1 as one', values: [] }, { also: adding, announce })).length > 0
  })
  return announced
}

async function postFour(worker: Pick<OutboxWorker, 'enqueue'>, table: Database): Promise<void> {
  for (let number = 0; number < 4; number++) assert.deepEqual(await postOne(worker, table, tea()), [])
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
