/** Many requests against one server, from several connections at once, and what went wrong. */
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
  /** The database: SQLite unless told. */
  engine?: 'sqlite' | 'postgres'
  /** Called now and then with how many were answered. */
  onProgress?: (answered: number) => void
  /** Called with each kind of fault when it is met first. */
  onFinding?: (what: string) => void
}

export interface Finding {
  what: string
  shot: Shot
  /** What went through the wire, made as small as it goes. */
  bytes: Buffer
  /** Whether it happens again when it is sent alone. */
  repeats: boolean
  times: number
  /** Lines of the log that came with it. */
  log: string[]
}

export interface FuzzReport {
  answered: number
  /** How many were answered with each status; 0: closed without an answer, because it was no HTTP. */
  statuses: Map<number, number>
  /** How many went to each first part of an address. */
  routes: Map<string, number>
  findings: Finding[]
  milliseconds: number
}

/** Milliseconds until silence is a fault. The slowest answer is to a registration that names an address of nobody. */
const patience = 10_000
/** And while a request that failed is made smaller. */
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

/** Sends one request to a new server, as often as it takes to see whether something is wrong with it. */
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
  // Every address is there; those that have something to say come more often.
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
    const id = /request id ([\w-]+)/.exec(heard.body)?.[1]
    const log = house.takeLog()
    lookAtLog(log, shot, bytes)
    const itsLines = log.filter(
      (line) => id !== undefined && line.includes(`"request":"${id}"`) && line.includes('"error"'),
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

/** Looks where faults show that are in no answer. */
function createLookout(house: House, loose: Loose, holes: Holes, remember: Remember) {
  /** What shows in no answer: the log, loose promises, and prototypes that have changed. */
  async function lookAround(shot: Shot, bytes: Buffer): Promise<void> {
    lookAtLog(house.takeLog(), shot, bytes)
    for (const error of loose.take())
      remember(`nobody caught: ${String(error)}`, shot, bytes, [String((error as Error)?.stack)])
    for (const name in {}) remember(`the prototype of all objects has ${name}`, shot, bytes, [])
  }

  function lookAtLog(lines: string[], shot: Shot, bytes: Buffer): void {
    for (const line of lines) {
      const fault = faultOfLine(line, holes.isSecret)
      // Requests that failed are noted by their answer.
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

/** Errors and rejections that nobody catches end a server: here they are kept, to be told. */
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
