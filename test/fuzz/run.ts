/** Sends many requests to one server, over several connections at once, and collects faults. */
import { setTimeout as pause } from 'node:timers/promises'
import { faultOf, faultOfLine } from './checks.ts'
import { readSeeds, seedsOf, shoot } from './grammar.ts'
import { createHoles, type Holes } from './holes.ts'
import { type House, openHouse } from './house.ts'
import { createRandom } from './random.ts'
import { bytesOf, isWellFramed, type Shot } from './shot.ts'
import { shrink } from './shrink.ts'
import { type Heard, openWire, type Wire } from './wire.ts'

export interface FuzzOptions {
  requests: number
  seed: number
  /** The database. Default: SQLite. */
  engine?: 'sqlite' | 'postgres'
  /** Called from time to time with the number of responses. */
  onProgress?: (answered: number) => void
  /** Called with the first fault of each kind. */
  onFinding?: (what: string) => void
}

export interface Finding {
  what: string
  shot: Shot
  /** The bytes of the request, minimized. */
  bytes: Buffer
  /** Whether it occurs again when the request is sent alone. */
  repeats: boolean
  times: number
  /** The log lines of the request. */
  log: string[]
}

export interface FuzzReport {
  answered: number
  /** The number of responses by status; 0: closed without a response, because the request was not HTTP. */
  statuses: Map<number, number>
  /** The number of requests by the first parts of the path. */
  routes: Map<string, number>
  findings: Finding[]
  milliseconds: number
}

/**
 * Milliseconds after which a missing response is a fault. The slowest one is of a registration whose address cannot be
 * resolved.
 */
const patience = 10_000
/** The same while a failing request is minimized. */
const lessPatience = 1000
const lanes = 16

export async function fuzz({
  requests,
  seed,
  engine = 'sqlite',
  onProgress = () => {},
  onFinding = () => {},
}: FuzzOptions): Promise<FuzzReport> {
  const house = await openHouse(engine)
  const loose = catchLoose()
  try {
    return await attack(house, loose, { requests, seed, engine, onProgress, onFinding })
  } finally {
    loose.stop()
    await house.close()
  }
}

/** Sends one request to a new server, repeatedly, until it is clear whether something is wrong. */
export async function again(shot: Shot): Promise<{ fault: string | undefined; heard: Heard; log: string[] }> {
  const house = await openHouse()
  try {
    const holes = createHoles(house)
    const wire = openWire(house.port, patience)
    house.takeLog()
    const heard = await send(shot, wire, holes)
    wire.close()
    const log = house.takeLog()
    return { fault: faultOf(shot, heard) ?? worstOf(log, holes), heard, log }
  } finally {
    await house.close()
  }
}

async function attack(house: House, loose: Loose, options: Required<FuzzOptions>): Promise<FuzzReport> {
  const holes = createHoles(house)
  // Every route is covered; routes with more logic have more seeds.
  const seeds = [...Array.from({ length: 8 }, readSeeds).flat(), ...seedsOf(house.routes)]
  const statuses = new Map<number, number>()
  const routes = new Map<string, number>()
  const findings = new Map<string, Finding>()
  const begun = performance.now()
  const { lookAround, lookAtLog } = createLookout(house, loose, holes, remember)
  let answered = 0
  let left = options.requests

  async function lane(number: number): Promise<void> {
    const random = createRandom(options.seed * 1000 + number)
    const wire = openWire(house.port, patience)
    while (left-- > 0) {
      const shot = shoot(seeds, random)
      house.clock.advance(1)
      const bytes = bytesOf(shot, holes.fill)
      const heard = await wire.say(bytes, mannerOf(shot))
      holes.learn(heard)
      count(statuses, heard.status)
      count(routes, firstPartsOf(shot.target))
      const fault = faultOf(shot, heard)
      if (fault !== undefined) await note(fault, shot, bytes, heard)
      answered += 1
      if (answered % 500 === 0) {
        await lookAround(shot, bytes)
        await house.staySignedIn()
        options.onProgress(answered)
      }
    }
    wire.close()
  }

  async function note(fault: string, shot: Shot, bytes: Buffer, heard: Heard): Promise<void> {
    const id = /with call ([\w-]+)/.exec(heard.body)?.[1]
    const log = house.takeLog()
    lookAtLog(log, shot, bytes)
    const itsLines = log.filter(
      (line) => id !== undefined && line.includes(`"call":"${id}"`) && line.includes('"error"'),
    )
    await keep(`${shot.method} ${firstPartsOf(shot.target)} ${messageIn(itsLines[0])}`, fault, shot, bytes, itsLines)
  }

  async function keep(where: string, fault: string, shot: Shot, bytes: Buffer, log: string[]): Promise<void> {
    const what = `${fault}: ${where}`
    const before = findings.get(what)
    if (before !== undefined) {
      before.times += 1
      return
    }
    const finding: Finding = { what, shot, bytes, repeats: false, times: 1, log }
    findings.set(what, finding)
    options.onFinding(what)
    const wire = openWire(house.port, lessPatience)
    const fails = async (candidate: Shot) => faultOf(candidate, await send(candidate, wire, holes)) === fault
    const smallest = await shrink(shot, fails)
    wire.close()
    if (smallest !== undefined)
      Object.assign(finding, { shot: smallest, bytes: bytesOf(smallest, holes.fill), repeats: true })
  }

  function remember(what: string, shot: Shot, bytes: Buffer, log: string[]): void {
    const before = findings.get(what)
    if (before !== undefined) {
      before.times += 1
      return
    }
    findings.set(what, { what, shot, bytes, repeats: false, times: 1, log })
    options.onFinding(what)
  }

  await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)))
  await pause(50)
  await lookAround({ method: '', target: '', version: '', headers: [], body: '', framing: 'none' }, Buffer.alloc(0))
  return { answered, statuses, routes, findings: [...findings.values()], milliseconds: performance.now() - begun }
}

type Remember = (what: string, shot: Shot, bytes: Buffer, log: string[]) => void

/** Looks for faults that no response shows. */
function createLookout(house: House, loose: Loose, holes: Holes, remember: Remember) {
  /** Checks the log, unhandled rejections, and changed prototypes. */
  async function lookAround(shot: Shot, bytes: Buffer): Promise<void> {
    lookAtLog(house.takeLog(), shot, bytes)
    for (const error of loose.take())
      remember(`uncaught: ${String(error)}`, shot, bytes, [String((error as Error)?.stack)])
    for (const name in {}) remember(`the prototype of all objects has ${name}`, shot, bytes, [])
  }

  function lookAtLog(lines: string[], shot: Shot, bytes: Buffer): void {
    for (const line of lines) {
      const fault = faultOfLine(line, holes.isSecret)
      // Failed requests are recorded by their response.
      if (fault !== undefined && !fault.includes('a request failed')) remember(fault, shot, bytes, [line])
    }
  }

  return { lookAround, lookAtLog }
}

async function send(shot: Shot, wire: Wire, holes: Holes): Promise<Heard> {
  return wire.say(bytesOf(shot, holes.fill), mannerOf(shot))
}

function mannerOf(shot: Shot): { withoutBody: boolean; alone: boolean } {
  return { withoutBody: shot.method === 'HEAD', alone: !isWellFramed(shot) || shot.version !== 'HTTP/1.1' }
}

function worstOf(log: string[], holes: Holes): string | undefined {
  return log.map((line) => faultOfLine(line, holes.isSecret)).find((fault) => fault !== undefined)
}

function firstPartsOf(target: string): string {
  const [path = ''] = target.split(/[?#]/)
  return /^\/[\w.-]*(\/[\w.-]+)?/.exec(path)?.[0] ?? 'elsewhere'
}

function messageIn(line: string | undefined): string {
  if (line === undefined) return ''
  const { error } = JSON.parse(line) as { error?: { message?: string } }
  return error?.message?.split('\n')[0]?.slice(0, 120) ?? ''
}

function count<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}

interface Loose {
  take(): unknown[]
  stop(): void
}

/** Uncaught errors and unhandled rejections would end a server: here they are collected and reported. */
function catchLoose(): Loose {
  let caught: unknown[] = []
  const heard = (error: unknown) => void caught.push(error)
  process.on('uncaughtException', heard).on('unhandledRejection', heard)
  return {
    take() {
      const taken = caught
      caught = []
      return taken
    },
    stop: () => void process.off('uncaughtException', heard).off('unhandledRejection', heard),
  }
}
