/** Runs Doorbell as in production: as a separate process, which can be stopped and killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { compileCache } from './compile-cache.ts'
import { until } from './until.ts'

const command = fileURLToPath(new URL('../../bin/doorbell.js', import.meta.url))

export interface ServerProcess {
  /** All lines of its log. */
  logLines: string[]
  /** Sends SIGKILL. Resolves when the process has ended. */
  kill(): Promise<void>
  /** Sends SIGTERM. Resolves to the exit code, and to the milliseconds until the process ended. */
  terminate(): Promise<{ code: number | null; took: number }>
  /** Sends SIGSTOP. The process does not notice the pause, as when its virtual machine is migrated. */
  pause(): void
  goOn(): void
  /** Resolves to the memory of the process. Only for a server that was started with `canBeWeighed`. */
  weigh(): Promise<Weight>
}

/** The memory of a process, in bytes. */
export interface Weight {
  /** Memory that remains after a garbage collection. */
  kept: number
  /** Resident memory. */
  resident: number
}

export interface ServerOptions {
  /** The port to use instead of the configured port. */
  port?: number
  /** The number of milliseconds by which the clock of the process is ahead of the machine's clock. */
  clockAhead?: number
  /**
   * The speed of the clock of the process: with 0.1, the clock advances ten seconds in a hundred seconds. Timers are
   * not affected.
   */
  clockPace?: number
  /** Resolves to whether the server listens. For a server whose log does not report this. */
  isUp?: () => Promise<boolean>
  canBeWeighed?: boolean
}

const shiftedClock = new URL('./shifted-clock.ts', import.meta.url).href
const scales = new URL('./scales.ts', import.meta.url).href

/** Starts a server. Resolves when the server listens. */
export async function startServer(
  configFile: string,
  { port, clockAhead = 0, clockPace = 1, isUp, canBeWeighed = false }: ServerOptions = {},
): Promise<ServerProcess> {
  const env = {
    ...process.env,
    NODE_ENV: 'production',
    NODE_COMPILE_CACHE: compileCache,
    DOORBELL_TEST_CLOCK_AHEAD: String(clockAhead),
    DOORBELL_TEST_CLOCK_PACE: String(clockPace),
  }
  const flags = [
    ...(clockAhead === 0 && clockPace === 1 ? [] : ['--import', shiftedClock]),
    ...(canBeWeighed ? ['--expose-gc', '--import', scales] : []),
  ]
  const where = port === undefined ? [] : ['--port', String(port)]
  const child = spawn(process.execPath, [...flags, command, 'serve', '--migrate', '--config', configFile, ...where], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
  })
  const logLines: string[] = []
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  const listening = new Promise<void>((resolve) => {
    createInterface(child.stderr!).on('line', (line) => {
      logLines.push(line)
      if (line.includes('"server.listening"')) resolve()
    })
  })
  let waits = true
  const up = isUp ? until(() => !waits || isUp(), 30_000) : listening
  await Promise.race([up, ended]).finally(() => {
    waits = false
  })
  if (child.exitCode !== null) throw new Error(`the server did not start: ${logLines.join('\n')}`)
  return {
    logLines,
    async kill() {
      send(child, 'SIGKILL')
      await ended
    },
    async terminate() {
      const begin = performance.now()
      send(child, 'SIGTERM')
      return { code: await ended, took: performance.now() - begin }
    },
    pause: () => send(child, 'SIGSTOP'),
    goOn: () => send(child, 'SIGCONT'),
    async weigh() {
      const before = logLines.length
      const said = () => logLines.slice(before).find((line) => line.includes('"weighed"'))
      send(child, 'SIGUSR2')
      await until(() => said() !== undefined, 60_000)
      return (JSON.parse(said()!) as { weighed: Weight }).weighed
    },
  }
}

function send(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.exitCode === null) child.kill(signal)
}
