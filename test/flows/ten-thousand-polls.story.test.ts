/**
 * Ten thousand clients poll one process and wait, each with its own connection (CIBA §10.1). Held polls cost memory
 * only: the database is free, and decisions arrive at once. After clients have hung up, almost no memory of their polls
 * stays in use.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { authReqIdOf, userOf } from '../../bench/cast.ts'
import { fill } from '../../bench/fill.ts'
import { openLine } from '../../bench/line.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { type Engine, engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { startServer, type Weight } from '../support/process.ts'
import { CIBA, castConfig, credentials } from '../support/stage.ts'
import { until } from '../support/until.ts'

const many = 10_000
/**
 * How many of the first clients get a decision, and how many of the last clients stay until the server stops. All other
 * clients hang up.
 */
const [decided, staying] = [200, 1_000]
/**
 * How many polls are sent at once. A client may have more calls than this in progress, even if it has not authenticated
 * from this address before.
 */
const wave = 200
/** Seconds for which a poll is held. The clock is slow, so that no poll times out before the test is over. */
const longPoll = 25
const clockPace = 0.08
/**
 * Milliseconds after which the test fails if an expected event has not happened. A successful test does not wait for
 * this time.
 */
const patience = 120_000

/**
 * Maximum number of bytes for a held poll with its connection. Measured were 11 500 and 27 000 bytes. Twice as many
 * would be too much.
 */
const most = { kept: 18_000, resident: 45_000 }
/**
 * Maximum number of bytes that stay in use after a poll: for its cached request, and for a part of what grew at first
 * use.
 */
const left = 2_000

for (const engine of engines) {
  test(`ten thousand polls are held at once, on ${engine.name} (TK-17)`, async (t) => {
    refuseTooFewFiles()
    const { server, port, untilHeld, databaseIsFree, decide } = await open(t, engine)
    await untilHeld(0)
    const idle = await server.weigh()

    // ── the polls arrive ──
    const clients: PollingClient[] = []
    t.after(() => clients.map(({ hangUp }) => hangUp()))
    const begin = performance.now()
    while (clients.length < many) {
      const numbers = Array.from({ length: wave }, (_, index) => clients.length + index)
      const more = await Promise.all(numbers.map((number) => createPollingClient(port, number)))
      for (const { poll } of more) poll()
      clients.push(...more)
      await untilHeld(clients.length)
    }
    t.diagnostic(`${many} polls are held after ${Math.round(performance.now() - begin)} ms`)
    await until(databaseIsFree, patience)
    await untilHeld(many)
    const full = await server.weigh()
    const each = { kept: (full.kept - idle.kept) / many, resident: (full.resident - idle.resident) / many }
    t.diagnostic(`memory: ${inWords(idle)} before, ${inWords(full)} with ${many} polls`)
    t.diagnostic(`a held poll: ${Math.round(each.kept)} bytes kept, ${Math.round(each.resident)} resident`)
    assert.ok(each.kept <= most.kept, `${each.kept} bytes are kept`)
    assert.ok(each.resident <= most.resident, `${each.resident} bytes are resident`)

    // ── their users decide ──
    const lateness = clients.slice(0, decided).map(async ({ outcome }, number) => {
      const status = number % 2 === 0 ? 'approved' : 'denied'
      await decide(number, status)
      const decidedAt = performance.now()
      const { at, body } = await outcome
      if (status === 'denied') assert.equal(body.error, 'access_denied')
      else assert.ok(body.access_token && body.id_token, JSON.stringify(body))
      return at - decidedAt
    })
    const latest = Math.max(...(await Promise.all(lateness)))
    t.diagnostic(`${decided} decisions, heard at most ${Math.max(0, Math.round(latest))} ms after their users`)
    await untilHeld(many - decided)
    assert.equal(clients.filter(({ isAnswered }) => isAnswered()).length, decided, 'no held poll is woken needlessly')

    // ── most of them hang up ──
    for (const { hangUp } of clients.slice(0, -staying)) hangUp()
    await untilHeld(staying)
    const emptier = await server.weigh()
    t.diagnostic(`memory: ${inWords(emptier)} with ${staying} polls`)
    const kept = emptier.kept - idle.kept - staying * each.kept
    assert.ok(kept <= left * many, `${kept} bytes are left of finished polls`)

    // ── the server stops ──
    const rest = clients.slice(-staying)
    const { code, took } = await server.terminate()
    t.diagnostic(`the server let ${staying} polls go, and ended, in ${Math.round(took)} ms`)
    for (const { outcome } of rest) assert.equal((await outcome).body.error, 'authorization_pending')
    assert.equal(code, 0)
    assert.ok(took < 10_000, `it took ${took} ms`)
  })
}

/**
 * Each process needs one file descriptor for every connection. Node raises its limit to the maximum that the shell
 * allows.
 */
function refuseTooFewFiles(): void {
  const allowed = spawnSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).stdout.trim()
  const needed = many + 1_000
  const isEnough = allowed === 'unlimited' || Number(allowed) >= needed
  assert.ok(isEnough, `this shell allows ${allowed} open files; type: ulimit -n ${needed}`)
}

async function open(t: TestContext, engine: Engine) {
  // Resources that were opened last are closed first.
  const endings: (() => unknown)[] = []
  t.after(async () => {
    for (const end of endings.toReversed()) await end()
  })
  const { url: database, drop } = await engine.fresh()
  endings.push(drop)
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-polls-'))
  endings.push(() => rm(folder, { recursive: true, force: true }))
  await fill({ url: database, clientId: 'kiosk', count: many, interval: 5 })
  const requestIds = await readRequestIds(database)

  const port = await freePort()
  const users = Array.from({ length: decided }, (_, number) => {
    const username = userOf(number)
    return { id: username, username, email: `${username}@example.com` }
  })
  const configFile = join(folder, 'doorbell.config.json')
  await writeFile(configFile, JSON.stringify(castConfig(port, database, { config: { users, requests: { longPoll } } })))
  const server = await startServer(configFile, { canBeWeighed: true, clockPace })
  endings.push(server.kill)
  const watch = await watchers[engine.name](database)
  endings.push(watch.end)

  return {
    server,
    port,
    databaseIsFree: watch.isFree,

    /** Checks at intervals, because one check costs as much as some polls. */
    async untilHeld(count: number): Promise<void> {
      await until(async () => {
        const response = await fetch(`http://127.0.0.1:${port}/metrics`)
        const held = /^doorbell_polls_held (\d+)$/m.exec(await response.text())?.[1]
        if (Number(held) === count) return true
        await pause(20)
        return false
      }, patience)
    },

    async decide(number: number, status: 'approved' | 'denied'): Promise<void> {
      const form = { login_hint: userOf(number), request_id: requestIds.get(userOf(number))!, status }
      const response = await fetch(`http://127.0.0.1:${port}/backchannel/complete`, {
        method: 'POST',
        headers: { authorization: credentials.phoneService },
        body: new URLSearchParams(form),
      })
      assert.equal(response.status, 200, await response.text())
    },
  }
}

/** Resolves to the ids of the requests, by user. Each user has one request. */
async function readRequestIds(url: string): Promise<Map<string, string>> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  const rows = await database.read<{ id: string; user_id: string }>('select id, user_id from backchannel_auth_requests')
  await database.close()
  return new Map(rows.map(({ id, user_id: user }) => [user, id]))
}

/** Functions that check from another process whether the server uses the database. */
const watchers = {
  /** Other processes may write, because no transaction is open. */
  async sqlite(url: string) {
    const database = new DatabaseSync(url.slice('sqlite:'.length))
    return {
      async isFree() {
        try {
          database.exec('begin immediate; rollback')
          return true
        } catch {
          return false
        }
      },
      end: async () => database.close(),
    }
  },
  /** The server has its eleven connections, and all of them are idle. */
  async postgres(url: string) {
    const client = new Client({ connectionString: url })
    await client.connect()
    return {
      async isFree() {
        const { rows } = await client.query<{ state: string }>(
          `select state from pg_stat_activity where datname = current_database() and application_name = 'doorbell'`,
        )
        return rows.length <= 11 && rows.every(({ state }) => state === 'idle')
      },
      end: () => client.end(),
    }
  },
}

interface Outcome {
  /** The time at which the response arrived. */
  at: number
  body: Record<string, unknown>
}

interface PollingClient {
  poll(): void
  outcome: Promise<Outcome>
  isAnswered(): boolean
  hangUp(): void
}

/** A client that polls once, for the request with this number. */
async function createPollingClient(port: number, number: number): Promise<PollingClient> {
  const line = await openLine(port)
  const form = `grant_type=${encodeURIComponent(CIBA)}&auth_req_id=${authReqIdOf(number)}`
  const head = [
    'POST /oauth/token HTTP/1.1',
    'Host: localhost',
    `Authorization: ${credentials.kiosk}`,
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${form.length}`,
  ]
  const heard = Promise.withResolvers<Outcome>()
  let isAnswered = false
  return {
    poll() {
      line.send(`${head.join('\r\n')}\r\n\r\n${form}`, (answer) => {
        isAnswered = true
        const body = answer instanceof Error ? { error: answer.message } : JSON.parse(answer.body)
        heard.resolve({ at: performance.now(), body })
      })
    },
    outcome: heard.promise,
    isAnswered: () => isAnswered,
    hangUp: line.close,
  }
}

function inWords({ kept, resident }: Weight): string {
  const megabytes = (bytes: number) => Math.round(bytes / 1_000_000)
  return `${megabytes(kept)} MB kept, ${megabytes(resident)} MB resident`
}
