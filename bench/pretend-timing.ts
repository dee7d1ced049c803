/**
 * Tests whether response times reveal which users exist, if `requests.unknownUsers` is `pretend`:
 *
 *     node bench/pretend-timing.ts [pairs]
 *
 * A pair is a request about a known user and a request about an unknown user, in random order. They are sent over HTTP
 * to a server on SQLite. Each user is used once, so that no user has more earlier requests than another. A measurement
 * begins only when the server has finished all earlier work. After the response, the server notifies a known user. To
 * measure this work too, another request follows at once, and its response time is compared.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDoorbell } from '../src/index.ts'
import { newSecret } from '../src/platform/crypto.ts'
import { createLog } from '../src/platform/log.ts'
import { freePort } from '../test/support/ports.ts'

const pairs = Number(process.argv[2] ?? 1000)
const warmUp = 200
const codePairs = Math.ceil(pairs / 10)
const everybody = Array.from({ length: warmUp + 2 * pairs + codePairs }, (_, number) => number)
const known = (number: number) => `known${number}@example.com`
const unknown = (number: number) => `nobody${number}@example.com`

const folder = await mkdtemp(join(tmpdir(), 'doorbell-bench-'))
const port = await freePort()
const secret = newSecret()
const client = { client_secret: secret, backchannel_token_delivery_mode: 'poll' as const }
const doorbell = await createDoorbell(
  {
    development: true,
    issuer: `http://localhost:${port}`,
    port,
    database: `sqlite:${join(folder, 'doorbell.db')}`,
    secret: newSecret(),
    requests: { unknownUsers: 'pretend' },
    userCodes: { maxTriesPerClient: 1_000_000 },
    clients: [
      { ...client, client_id: 'till' },
      { ...client, client_id: 'booth', backchannel_user_code_parameter: true },
    ],
    users: everybody.map((number) => ({ id: `u${number}`, email: known(number), user_code: `code-${number}` })),
  },
  { log: createLog('silent') },
)
await doorbell.listen()
try {
  await ask(0, warmUp, async (login_hint) => ring('till', { login_hint }))
  say('A request', await ask(warmUp, pairs, async (login_hint) => ring('till', { login_hint })))
  const wrongCode = async (login_hint: string) => {
    const { error, milliseconds } = await ring('booth', { login_hint, user_code: 'wrong' })
    // The server pretends that only some of the unknown users have a user code. Requests about the others get another
    // response and are not measured.
    return error === 'invalid_user_code' ? { milliseconds } : undefined
  }
  say('A wrong user code', await ask(warmUp + pairs, codePairs, wrongCode))
  const next = async (login_hint: string) => {
    await ring('till', { login_hint })
    return ring('till', { login_hint: `next to ${login_hint}` })
  }
  say('The request after one', await ask(warmUp + pairs + codePairs, pairs, next))
} finally {
  await doorbell.close()
  await rm(folder, { recursive: true })
}

interface Times {
  known: number[]
  unknown: number[]
}

async function ask(
  from: number,
  count: number,
  measure: (hint: string) => Promise<{ milliseconds: number } | undefined>,
): Promise<Times> {
  const times: Times = { known: [], unknown: [] }
  for (let number = from; number < from + count; number++) {
    const turns = [
      ['known', known(number)],
      ['unknown', unknown(number)],
    ] as const
    for (const [kind, hint] of Math.random() < 0.5 ? turns : turns.toReversed()) {
      const measured = await measure(hint)
      if (measured !== undefined) times[kind].push(measured.milliseconds)
      await doorbell.idle()
    }
  }
  return times
}

async function ring(as: string, form: Record<string, string>) {
  const authorization = `Basic ${Buffer.from(`${as}:${secret}`).toString('base64')}`
  const body = String(new URLSearchParams({ scope: 'openid', binding_message: 'Coffee 4.20', ...form }))
  const headers = { authorization, 'content-type': 'application/x-www-form-urlencoded' }
  const start = performance.now()
  const response = await fetch(`http://localhost:${port}/backchannel/authorize`, { method: 'POST', headers, body })
  const text = await response.text()
  const milliseconds = performance.now() - start
  return { milliseconds, error: (JSON.parse(text) as { error?: string }).error }
}

function say(what: string, times: Times): void {
  const { p, share } = mannWhitney(times.known, times.unknown)
  const middle = (kind: keyof Times) => `${median(times[kind]).toFixed(3)} ms (${times[kind].length})`
  process.stdout.write(`${what}: known ${middle('known')}, unknown ${middle('unknown')}, p = ${p.toFixed(3)}\n`)
  const seen =
    p < 0.01
      ? `The times differ: one of a known user is the longer one in ${(share * 100).toFixed(1)} of 100 pairs.`
      : 'No difference was seen between the times of known and unknown users.'
  process.stdout.write(`  ${seen}\n`)
}

function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const half = sorted.length / 2
  return sorted.length % 2 ? sorted[Math.floor(half)]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/**
 * Returns how often a value of `first` is the larger one, and the probability of at least this difference by chance
 * (two-sided, normal).
 */
function mannWhitney(first: number[], second: number[]): { p: number; share: number } {
  const ranked = [...first.map((value) => ({ value, mine: true })), ...second.map((value) => ({ value, mine: false }))]
  ranked.sort((one, other) => one.value - other.value)
  const rankSum = ranked.reduce((sum, { mine }, index) => sum + (mine ? index + 1 : 0), 0)
  const [n, m] = [first.length, second.length]
  const u = rankSum - (n * (n + 1)) / 2
  const z = (u - (n * m) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12)
  return { p: 2 * (1 - normal(Math.abs(z))), share: u / (n * m) }
}

/** The standard normal distribution (Abramowitz and Stegun 26.2.17; the error is below 1e-7). */
function normal(z: number): number {
  const t = 1 / (1 + 0.2316419 * z)
  const tail = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429]
  const sum = tail.reduceRight((inner, factor) => t * (factor + inner), 0)
  return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * sum
}
