/** Doorbell as it is in production: a process of its own, that can be told to stop, and can be killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const command = fileURLToPath(new URL('../../bin/doorbell.js', import.meta.url))

export interface ServerProcess {
  /** Everything it logged. */
  logLines: string[]
  /** kill -9. Resolves when it is gone. */
  kill(): Promise<void>
  /** Asks it to stop. Answers its exit code and how long it took, in milliseconds. */
  terminate(): Promise<{ code: number | null; took: number }>
}

/** Resolves when it listens. */
export async function startServer(configFile: string): Promise<ServerProcess> {
  const env = { ...process.env, NODE_ENV: 'production', NODE_COMPILE_CACHE: `${configFile}.cache` }
  const child = spawn(process.execPath, [command, 'serve', '--migrate', '--config', configFile], {
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
  await Promise.race([listening, ended])
  if (child.exitCode !== null) throw new Error(`the server did not start: ${logLines.join('\n')}`)
  return {
    logLines,
    async kill() {
      end(child, 'SIGKILL')
      await ended
    },
    async terminate() {
      const begin = performance.now()
      end(child, 'SIGTERM')
      return { code: await ended, took: performance.now() - begin }
    },
  }
}

function end(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.exitCode === null) child.kill(signal)
}
