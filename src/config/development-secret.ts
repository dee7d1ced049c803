/** Generates a secret in development, and keeps it in a file. */
import { randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { newSecret } from '../platform/crypto.ts'
import { ConfigError } from '../platform/validation.ts'
import { isSecret } from './settings/formats.ts'

/**
 * Resolves to the development secret. It is kept in a file, which is created if it does not exist. For a database in
 * memory, the secret is always new and is not stored.
 *
 * @param database the setting `database`
 * @param cwd the folder of the file with the secret, if the database is Postgres; with SQLite, this file is beside the
 *   database
 */
export async function keepSecret(database: string, cwd: string): Promise<string> {
  if (database === 'sqlite::memory:') return newSecret()
  const path = fileFor(database, cwd)
  const secret = (await readIfThere(path)) ?? (await create(path))
  if (!isSecret(secret)) {
    throw new ConfigError([
      `secret in ${basename(path)} is not a valid secret (${secret.length} characters); delete that file`,
    ])
  }
  return secret
}

/**
 * Resolves to the path of the file with the development secret, if this file exists and contains another secret than
 * `secret`. If not, resolves to undefined.
 */
export async function fileOfOtherSecret(
  { database, secret }: { database: string; secret: string },
  cwd: string,
): Promise<string | undefined> {
  if (database === 'sqlite::memory:') return undefined
  const path = fileFor(database, cwd)
  const kept = await readIfThere(path)
  return kept === undefined || kept === secret ? undefined : path
}

function fileFor(database: string, cwd: string): string {
  return database.startsWith('sqlite:') ? `${database.slice('sqlite:'.length)}.secret` : resolve(cwd, 'doorbell.secret')
}

/**
 * Creates the file with the secret, and never overwrites an existing file. The secret is first written to a file of
 * another name, which is then linked to `path`, so that no process reads an incomplete file. If several processes start
 * at the same time, one process creates the file and the others read it. Resolves to the secret in the file.
 */
async function create(path: string): Promise<string> {
  const draft = `${path}.${randomUUID()}`
  const secret = newSecret()
  await mkdir(dirname(path), { recursive: true })
  await writeFile(draft, `${secret}\n`, { flag: 'wx', mode: 0o600 })
  try {
    await link(draft, path)
    return secret
  } catch (error) {
    const kept = await readIfThere(path)
    if (kept === undefined) throw error
    return kept
  } finally {
    await rm(draft, { force: true })
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
