/**
 * Starts and calls the parts of a benchmark. Each part is a separate process, whose code is in `parts/`. It is called
 * over IPC.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export interface Usage {
  /** Microseconds of CPU that all threads of the process have used so far. */
  cpu: number
  /** Resident memory in bytes. */
  rss: number
}

export interface Part {
  /** Milliseconds from the start of the process until it was ready. */
  readyAfter: number
  /** The port on which the part listens, or 0 if it does not listen. */
  port: number
  ask<Answer>(what: string, told?: unknown): Promise<Answer>
  usage(): Promise<Usage>
  stop(): Promise<void>
}

interface Question {
  id: number
  what: string
  told: unknown
}

type Said = { ready: number } | { failed: string } | { id: number; answer: unknown } | { id: number; error: string }

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/**
 * Starts a part. Resolves when the part reports that it is ready.
 *
 * @param folder the folder of the built parts
 * @param program the program that runs the part. Default: Node
 */
export async function startPart(folder: URL, name: string, setup: unknown, program?: string): Promise<Part> {
  const begin = performance.now()
  // The standard streams are ignored: a server writes its log, as in production, but no process reads the log.
  const child = fork(fileURLToPath(new URL(`${name}.js`, folder)), {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, NODE_ENV: 'production' },
    execArgv: [],
    ...(program !== undefined && { execPath: program }),
  })
  running.add(child)
  const waiting = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>()
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const ready = new Promise<number>((resolve, reject) => {
    child.on('message', (said: Said) => {
      if ('ready' in said) return resolve(said.ready)
      if ('failed' in said) return reject(new Error(`${name}: ${said.failed}`))
      const asked = waiting.get(said.id)
      waiting.delete(said.id)
      if ('error' in said) asked?.reject(new Error(`${name}: ${said.error}`))
      else asked?.resolve(said.answer)
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      running.delete(child)
      const gone = new Error(`${name} ended (${code ?? signal})`)
      reject(gone)
      for (const { reject } of waiting.values()) reject(gone)
    })
  })
  child.send({ id: 0, what: 'setup', told: setup } satisfies Question)
  const port = await ready
  const readyAfter = performance.now() - begin

  let questions = 0
  function ask<Answer>(what: string, told?: unknown): Promise<Answer> {
    const id = ++questions
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject })
      child.send({ id, what, told } satisfies Question)
    })
  }

  return {
    readyAfter,
    port,
    ask,
    usage: () => ask('usage'),
    async stop() {
      if (child.connected) child.send({ id: 0, what: 'stop', told: undefined } satisfies Question)
      const impatience = setTimeout(() => child.kill('SIGKILL'), 8000)
      await ended
      clearTimeout(impatience)
    },
  }
}

export interface Playing<Answers> {
  /** The port on which the part listens, or 0 if it does not listen. */
  port: number
  answers: Answers
  close(): Promise<void>
}

type Answers = Record<string, (told: never) => unknown>

/**
 * Runs in the process of a part. Sets the part up once, and answers calls. Ends the process when the parent requests
 * this or has ended.
 */
export function playPart<Setup>(begin: (setup: Setup) => Promise<Playing<Answers>>): void {
  let playing: Playing<Answers> | undefined
  const say = (said: Said) => {
    if (process.connected) process.send!(said)
  }

  async function answer({ id, what, told }: Question): Promise<void> {
    if (what === 'usage') return say({ id, answer: usage() })
    try {
      say({ id, answer: await playing!.answers[what]!(told as never) })
    } catch (error) {
      say({ id, error: (error as Error).message })
    }
  }

  process.on('message', async (question: Question) => {
    if (what(question) === 'stop') return end()
    if (what(question) !== 'setup') return answer(question)
    try {
      playing = await begin(question.told as Setup)
      say({ ready: playing.port })
    } catch (error) {
      say({ failed: (error as Error).stack ?? String(error) })
    }
  })
  process.on('disconnect', end)

  async function end(): Promise<void> {
    await playing?.close()
    process.exit(0)
  }
}

const what = (question: Question) => question.what

function usage(): Usage {
  const { user, system } = process.cpuUsage()
  return { cpu: user + system, rss: process.memoryUsage.rss() }
}
