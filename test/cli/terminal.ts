/** A terminal: runs the real command in a process and a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { compileCache } from '../support/compile-cache.ts'

const bin = fileURLToPath(new URL('../../bin/doorbell.js', import.meta.url))

/** In milliseconds. A command that takes longer hangs; a server may be shared by a whole suite. */
const patience = { command: 60_000, server: 280_000 }

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

export interface Running {
  process: ChildProcess
  /** The output so far, of both streams. */
  output(): string
  /** Resolves with the match as soon as the output has one. Rejects if the process ends without one. */
  says(pattern: RegExp): Promise<RegExpExecArray>
  ended: Promise<Ended>
}

export interface Terminal {
  cwd: string
  /** Runs a command to its end. */
  run(args: string[], how?: How): Promise<Ended>
  /** Runs a command with `--json`, and resolves to its result. */
  json(args: string[], how?: How): Promise<Record<string, unknown>>
  /** Starts a command. It is killed when the test ends. */
  start(args: string[], how?: How): Running
  /** Starts a server and waits until it listens. */
  serve(args: string[], how?: How): Promise<Running>
}

export interface How {
  env?: Record<string, string>
  input?: string
  /** Makes the command write as on a terminal of this width, with colours. Its input stays a pipe. */
  columns?: number
}

/** A real terminal would need a library or another program. */
function asOnTerminal(columns: number): Record<string, string> {
  const pretend = `process.stdout.isTTY=process.stderr.isTTY=true;process.stdout.columns=${columns}`
  return { NODE_OPTIONS: `--import=data:text/javascript,${pretend}` }
}

/** Runs clean-up functions at the end of a test or a suite. */
export interface Cleaner {
  after(clean: () => Promise<void>): void
}

/**
 * For resources that tests of a suite share. Call it in the suite itself: in a hook, clean-up runs when the hook ends.
 */
export function cleanAfterSuite(): Cleaner {
  const cleanings: (() => Promise<void>)[] = []
  after(async () => {
    for (const clean of cleanings.reverse()) await clean()
  })
  return { after: (clean) => void cleanings.push(clean) }
}

/** @param env environment variables of this terminal */
export async function openTerminal(t: Cleaner, env: Record<string, string> = {}): Promise<Terminal> {
  const cwd = await mkdtemp(join(tmpdir(), 'doorbell-cli-'))
  const started = new Set<ChildProcess>()
  t.after(async () => {
    for (const child of started) if (child.exitCode === null) child.kill('SIGKILL')
    await rm(cwd, { recursive: true, force: true })
  })

  function start(args: string[], how: How = {}): Running {
    const child = spawn(process.execPath, [bin, ...args], {
      cwd,
      env: { ...outside(), ...(how.columns && asOnTerminal(how.columns)), ...env, ...how.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: args[0] === 'serve' ? patience.server : patience.command,
      killSignal: 'SIGKILL',
    })
    started.add(child)
    child.stdin.on('error', () => {})
    child.stdin.end(how.input ?? '')
    return listenTo(child)
  }

  const terminal: Terminal = {
    cwd,
    start,
    run: (args, how) => start(args, how).ended,
    async json(args, how) {
      const { stdout, stderr } = await terminal.run([...args, '--json'], how)
      try {
        return JSON.parse(stdout) as Record<string, unknown>
      } catch {
        throw new Error(`no JSON from ${args.join(' ')}:\n${stdout}\n${stderr}`)
      }
    },
    async serve(args, how) {
      const server = start(['serve', ...args], how)
      await server.says(/server\.listening/)
      return server
    },
  }
  return terminal
}

function listenTo(child: ChildProcess): Running {
  let stdout = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
    for (const look of watchers) look()
  })
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
    for (const look of watchers) look()
  })
  const output = () => stdout + stderr
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
  return {
    process: child,
    output,
    ended,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(output())
          if (match === null) return
          watchers.delete(look)
          resolve(match)
        }
        watchers.add(look)
        ended.then(() => reject(new Error(`it ended without saying ${pattern}:\n${output()}`)))
        look()
      }),
  }
}

/** Returns the environment without the configuration of the developer who runs the tests. */
function outside(): NodeJS.ProcessEnv {
  const names = Object.keys(process.env).filter((name) => !/^(DOORBELL_|FORCE_COLOR|NODE_TEST_CONTEXT)/.test(name))
  const env = Object.fromEntries(names.map((name) => [name, process.env[name]]))
  return { ...env, NODE_COMPILE_CACHE: compileCache }
}
