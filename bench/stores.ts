/**
 * The databases of a benchmark's servers. Each server has its own file or Postgres database, which is removed
 * afterwards.
 */
import { rmSync } from 'node:fs'
import { mkdtemp, readdir, readFile, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { startPostgres } from '../test/support/postgres.ts'

export interface Stores {
  sqlite(): string
  postgres(): Promise<string>
  /** The version of Postgres, and whether a commit waits for the disk. */
  aboutPostgres: string
  /** Resolves to the size on disk of the database at this URL, in bytes. The size includes SQLite's log file. */
  sizeOf(url: string): Promise<number>
  /**
   * Resolves to the CPU time that all processes of Postgres have used so far, in microseconds. Undefined if the system
   * is not Linux.
   */
  postgresCpu(): Promise<number | undefined>
  /** Removes what has been opened so far. */
  clear(): Promise<void>
  close(): Promise<void>
}

/** Starts a Postgres server that syncs to disk, or uses the server at the URL in `DOORBELL_BENCH_POSTGRES`. */
export async function openStores(): Promise<Stores> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const named = process.env.DOORBELL_BENCH_POSTGRES
  const server = named === undefined ? await startPostgres({ durable: true }) : { url: named, stop: async () => {} }
  const operator = new Client({ connectionString: server.url })
  await operator.connect()
  const [about] = (
    await operator.query(
      `select current_setting('server_version') as version, current_setting('fsync') as fsync,
         current_setting('synchronous_commit') as commit, pg_backend_pid() as pid`,
    )
  ).rows
  const ours = named === undefined || new URL(named).hostname === '127.0.0.1'
  const master = ours ? await parentOf(about.pid) : undefined
  const databases: string[] = []
  let files = 0

  async function clear(): Promise<void> {
    for (const name of databases.splice(0)) await operator.query(`drop database ${name} with (force)`)
  }

  return {
    aboutPostgres: `${about.version}, fsync ${about.fsync}, synchronous_commit ${about.commit}`,
    sqlite: () => `sqlite:${join(folder, `${++files}.db`)}`,
    async postgres() {
      const name = `bench_${process.pid}_${++files}`
      await operator.query(`create database ${name}`)
      databases.push(name)
      const url = new URL(server.url)
      url.pathname = name
      return url.href
    },
    async sizeOf(url) {
      if (url.startsWith('sqlite:')) return sizeOfFile(url.slice('sqlite:'.length))
      const { rows } = await operator.query('select pg_database_size($1) as size', [new URL(url).pathname.slice(1)])
      return Number(rows[0].size)
    },
    postgresCpu: async () => (master === undefined ? undefined : cpuOfFamily(master)),
    clear,
    async close() {
      await clear()
      await operator.end()
      await server.stop()
    },
  }
}

async function sizeOfFile(path: string): Promise<number> {
  const sizes = [path, `${path}-wal`].map((each) =>
    stat(each).then(
      ({ size }) => size,
      () => 0,
    ),
  )
  return (await Promise.all(sizes)).reduce((sum, each) => sum + each, 0)
}

/** Returns the fields of /proc/<pid>/stat after the name, which may contain spaces. */
async function statOf(pid: number | string): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

async function parentOf(pid: number): Promise<number | undefined> {
  return Number((await statOf(pid))[1]) || undefined
}

/**
 * Returns the CPU time of the process `master` and of its child processes, in microseconds. The kernel adds the time of
 * ended child processes to their parent. The times in /proc are hundredths of a second.
 */
async function cpuOfFamily(master: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const stats = await Promise.all(pids.map(async (pid) => ({ pid, stat: await statOf(pid) })))
  const ticks = stats.map(({ pid, stat: [, parent, , , , , , , , , , user, system, endedUser, endedSystem] }) => {
    if (Number(pid) === master) return Number(user) + Number(system) + Number(endedUser) + Number(endedSystem)
    return Number(parent) === master ? Number(user) + Number(system) : 0
  })
  return ticks.reduce((sum, each) => sum + each, 0) * 10_000
}
