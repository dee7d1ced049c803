/**
 * A Postgres primary and its standby, both real. The standby starts from a copy of the primary's folder, because
 * `pg_basebackup` is not among the binaries. It replicates through a relay whose connections can be cut.
 */
import { chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { freePort } from './ports.ts'
import { isReady, type LaunchedPostgres, launch, letGo, postmaster, runAs, settings, withCluster } from './postgres.ts'
import type { Account, Binaries } from './postgres-binaries.ts'
import { openRelay, type Relay } from './relay.ts'
import { until } from './until.ts'

/**
 * - `killed`: all processes of the primary are killed, as if the machine had failed;
 * - `crashed`: an immediate shutdown;
 * - `stopped`: a fast shutdown, in which connections that wait for the standby get an error and are closed;
 * - `cut off`: the primary becomes unreachable, and is killed a moment later.
 */
export type PrimaryEnd = 'killed' | 'crashed' | 'stopped' | 'cut off'

export interface PostgresPair {
  /** The URL of a relay, which leads to the current primary. */
  url: string
  /** The direct URL of the server that accepts changes, without the relay. */
  readonly primary: string
  readonly standby: string
  /** Sets whether commits wait for the standby. */
  setSynchronous(isSynchronous: boolean): Promise<void>
  /** Cuts or restores replication to the standby. */
  replication: { cut(): void; restore(): void }
  /**
   * Ends the primary. From now on, connections to `url` fail. Resolves when all processes of the primary have ended.
   */
  endPrimary(how: PrimaryEnd): Promise<void>
  /** Promotes the standby to primary. Connections to `url` fail until `lead` is called. */
  promote(): Promise<void>
  /** From now on, `url` leads to the primary, or to the standby. */
  lead(to?: 'standby'): void
  /** Starts a new standby of the remaining primary. */
  addStandby(): Promise<void>
  stop(): Promise<void>
}

interface Node extends LaunchedPostgres {
  port: number
  folder: string
}

export function startPostgresPair(): Promise<PostgresPair> {
  return withCluster(async (binaries, folder, account) => {
    const first = await makeFolder(join(folder, '1'), account)
    await runAs(account, 'mv', join(folder, 'data'), join(first, 'data'))
    return createPair(binaries, folder, account, first)
  })
}

async function createPair(binaries: Binaries, folder: string, account: Account, first: string): Promise<PostgresPair> {
  const [address, stream] = await Promise.all([openRelay(), openRelay()])
  let made = 1
  let primary = await start(binaries, first, account)
  let standby = await follow()
  address.leadTo(primary.port)

  async function follow(): Promise<Node> {
    const next = await makeFolder(join(folder, String(++made)), account)
    stream.leadTo(primary.port)
    await copy(primary, next, account)
    const node = await start(binaries, next, account, stream)
    await until(async () => (await ask(urlOf(primary), 'select 1 from pg_stat_replication')).length > 0)
    return node
  }

  return {
    url: urlOf(address),
    get primary() {
      return urlOf(primary)
    },
    get standby() {
      return urlOf(standby)
    },
    async setSynchronous(isSynchronous) {
      await ask(urlOf(primary), `alter system set synchronous_standby_names = '${isSynchronous ? '*' : ''}'`)
      await ask(urlOf(primary), 'select pg_reload_conf()')
      const wanted = isSynchronous ? 'sync' : 'async'
      const states = `select 1 from pg_stat_replication where sync_state = '${wanted}' and state = 'streaming'`
      await until(async () => (await ask(urlOf(primary), states)).length > 0)
    },
    replication: {
      cut: () => stream.cut(),
      restore: () => stream.leadTo(primary.port),
    },
    async endPrimary(how) {
      primary.child.ref()
      if (how === 'cut off') {
        address.cut()
        await pause(50)
      }
      if (how === 'crashed') process.kill(await postmaster(primary.folder), 'SIGQUIT')
      else if (how === 'stopped') process.kill(await postmaster(primary.folder), 'SIGINT')
      // The process group includes the shell that supervises the server. The shell is its leader.
      else process.kill(-primary.child.pid!, 'SIGKILL')
      await primary.ended
      address.cut()
      await rm(primary.folder, { recursive: true, force: true })
    },
    async promote() {
      stream.cut()
      await ask(urlOf(standby), 'select pg_promote(true, 60)')
      primary = standby
    },
    lead: (to) => address.leadTo(to === 'standby' ? standby.port : primary.port),
    async addStandby() {
      standby = await follow()
    },
    async stop() {
      address.close()
      stream.close()
      for (const { child, ended } of new Set([primary, standby])) {
        child.ref()
        child.stdin?.end()
        await ended
      }
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function start(binaries: Binaries, folder: string, account: Account, stream?: Relay): Promise<Node> {
  const port = await freePort()
  const more = {
    full_page_writes: 'on',
    wal_keep_size: '64MB',
    min_wal_size: '32MB',
    // With these settings, data reach the disk and the standby only at a commit.
    wal_writer_delay: '10s',
    bgwriter_delay: '10s',
    autovacuum: 'off',
    ...(stream && { primary_conninfo: `host=127.0.0.1 port=${stream.port} user=postgres application_name=standby` }),
    ...(stream && { wal_retrieve_retry_interval: '100ms' }),
  }
  const launched = launch(binaries, folder, account, settings(folder, port, {}, more))
  if (!(await isReady(launched.child))) throw new Error(`Postgres did not start: ${launched.complaint()}`)
  letGo(launched.child)
  return { ...launched, port, folder }
}

/** Makes a base backup as the manual of Postgres describes it for a backup without `pg_basebackup`. */
async function copy(from: Node, to: string, account: Account): Promise<void> {
  const client = new Client({ connectionString: urlOf(from) })
  await client.connect()
  try {
    await client.query("select pg_backup_start('standby', fast => true)")
    await runAs(account, '/bin/sh', '-c', copyFolder, 'sh', join(from.folder, 'data'), join(to, 'data'))
    const { rows } = await client.query('select labelfile from pg_backup_stop(wait_for_archive => false)')
    await writeFor(account, join(to, 'data', 'backup_label'), rows[0].labelfile)
    await writeFor(account, join(to, 'data', 'standby.signal'), '')
  } finally {
    await client.end()
  }
}

/** Copies the folder without the write-ahead log, because the standby gets recent changes by replication. */
const copyFolder = `
  mkdir -m 700 "$2" && cd "$1" &&
  tar -cf - --exclude './pg_wal/*' --exclude './postmaster.*' . | tar -xf - -C "$2"
`

async function makeFolder(folder: string, account: Account): Promise<string> {
  await mkdir(folder)
  if (account) await chown(folder, account.uid, account.gid)
  return folder
}

async function writeFor(account: Account, file: string, text: string): Promise<void> {
  await writeFile(file, text)
  if (account) await chown(file, account.uid, account.gid)
}

const urlOf = ({ port }: { port: number }) => `postgres://postgres@127.0.0.1:${port}/postgres`

/** Executes one statement on a new connection. */
export async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
