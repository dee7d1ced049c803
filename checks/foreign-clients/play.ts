/**
 * Runs clients in several languages and libraries against a Doorbell server over TLS with `tls.clientCa`. Each client
 * must run the flows that `flows.ts` lists. Prints one line for each flow, and exits with 1 at the first failure.
 *
 *     node checks/foreign-clients/play.ts node|python|go|java
 *
 * `checks/README.md` says which programs must be installed. Packages and built programs are kept in the folder
 * `FOREIGN_CLIENTS_CACHE`, or else in the folder for temporary files. Only this machine is called, except to install
 * packages.
 */
import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { flows } from './flows.ts'
import { type RunningServer, startForForeignClients } from './server.ts'

interface Command {
  program: string
  args: string[]
}

interface Language {
  /** The commands that install packages and build programs. They need the network only if packages are missing. */
  prepare: Command[]
  /** One program for each client library. The key is the name with which the lines of the program begin. */
  clients: Record<string, Command>
}

const here = fileURLToPath(new URL('.', import.meta.url))
const cache = process.env.FOREIGN_CLIENTS_CACHE ?? join(tmpdir(), 'doorbell-foreign-clients')
const python = join(cache, 'python/bin/python')
const java = join(cache, 'java')
/** Time limit of a client for all flows, in seconds. */
const longestSeconds = 180

const languages: Record<string, Language> = {
  node: {
    prepare: [],
    clients: {
      'openid-client': { program: process.execPath, args: [join(here, 'node/openid-client.ts')] },
      oauth4webapi: { program: process.execPath, args: [join(here, 'node/oauth4webapi.ts')] },
    },
  },
  python: {
    prepare: [
      { program: 'python3', args: ['-m', 'venv', join(cache, 'python')] },
      {
        program: python,
        args: ['-m', 'pip', 'install', '--quiet', '--requirement', join(here, 'python/requirements.txt')],
      },
    ],
    clients: {
      authlib: { program: python, args: [join(here, 'python/authlib_client.py')] },
      requests_oauth2client: { program: python, args: [join(here, 'python/requests_oauth2client_client.py')] },
    },
  },
  go: {
    prepare: [{ program: 'go', args: ['build', '-C', join(here, 'go'), '-o', join(cache, 'go-client'), '.'] }],
    clients: { go: { program: join(cache, 'go-client'), args: [] } },
  },
  java: {
    prepare: [
      {
        program: 'mvn',
        args: [
          ...['--quiet', '--batch-mode', '--file', join(here, 'java/pom.xml'), `-Dfolder=${java}`],
          ...['compiler:compile', 'dependency:copy-dependencies'],
        ],
      },
    ],
    clients: { nimbus: { program: 'java', args: ['-cp', `${java}/classes:${java}/lib/*`, 'Main'] } },
  },
}

async function main(): Promise<void> {
  const [name, ...only] = process.argv.slice(2)
  const language = languages[name ?? '']
  if (language === undefined) throw new Error(`name one of: ${Object.keys(languages).join(', ')}`)
  await mkdir(cache, { recursive: true })
  for (const step of language.prepare) {
    const { code, lines } = await run(step)
    if (code !== 0) throw new Error(`${step.program} ${step.args.join(' ')}: exit ${code}\n${lines.join('\n')}`)
  }
  const server = await startForForeignClients()
  try {
    for (const [client, command] of Object.entries(language.clients)) {
      if (only.length > 0 && !only.includes(client)) continue
      await play(client, command, server)
    }
  } catch (error) {
    process.stderr.write(`the server's log ends with\n${server.logLines.slice(-15).join('\n')}\n`)
    throw error
  } finally {
    await server.stop()
  }
}

/** Runs a client. Rejects unless the client has printed exactly one line "ok" for each flow. */
async function play(client: string, command: Command, server: RunningServer): Promise<void> {
  const args = [...command.args, server.material]
  const { code, lines } = await run({ program: command.program, args }, server.authority)
  if (code !== 0) throw new Error(`${client}: exit ${code}`)
  const played = lines.flatMap(
    (line) =>
      line
        .match(/^(.+?): (.+?) … ok\b/)
        ?.slice(1, 3)
        .join(': ') ?? [],
  )
  const missing = flows.filter((flow) => played.filter((line) => line === `${client}: ${flow}`).length !== 1)
  if (missing.length > 0) throw new Error(`${client} has not played exactly once: ${missing.join('; ')}`)
}

/**
 * Runs a program. The output of a client is printed at once. The output of a preparing command is printed only if the
 * command fails.
 */
async function run({ program, args }: Command, authority?: string): Promise<{ code: number | null; lines: string[] }> {
  const env = { ...process.env, ...(authority !== undefined && { REQUESTS_CA_BUNDLE: authority }) }
  const child = spawn(program, args, { cwd: here, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = authority === undefined ? undefined : setTimeout(() => child.kill(), longestSeconds * 1000)
  const lines: string[] = []
  const print = (stream: NodeJS.WriteStream) => (line: string) => {
    lines.push(line)
    if (authority !== undefined) stream.write(`${line}\n`)
  }
  createInterface(child.stdout).on('line', print(process.stdout))
  createInterface(child.stderr).on('line', print(process.stderr))
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(new Error(`${program} cannot be run: see checks/README.md`, { cause: error })),
    )
    child.once('close', (code) => {
      clearTimeout(timer)
      resolve({ code, lines })
    })
  })
}

try {
  await main()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
}
