/** The folder for the temporary files of a test run. */
import { constants } from 'node:fs'
import { access, chmod, mkdtemp, readFile, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const inMemory = '/dev/shm'
const gigabyte = 2 ** 30

export interface Scratch {
  folder: string
  remove(): Promise<void>
}

/**
 * Creates it in memory if there is enough: a test run creates thousands of databases and removes them again, and on a
 * disk each of them is some hundred files. What tests prove does not depend on it: they end processes, not machines.
 */
export async function makeScratch(): Promise<Scratch> {
  const folder = await mkdtemp(join((await hasRoomInMemory()) ? inMemory : tmpdir(), 'doorbell-tests-'))
  // Postgres has an account of its own.
  await chmod(folder, 0o711)
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) }
}

async function hasRoomInMemory(): Promise<boolean> {
  if (process.platform !== 'linux' || process.availableMemory() < 8 * gigabyte) return false
  try {
    await access(inMemory, constants.W_OK)
    const { bavail, bsize } = await statfs(inMemory)
    return bavail * bsize >= 4 * gigabyte && !(await forbidsPrograms(inMemory))
  } catch {
    return false
  }
}

/** Programs may be copied to the folder, see `startPostgres`. */
async function forbidsPrograms(mounted: string): Promise<boolean> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' '))
  const options = mounts.find(([, where]) => where === mounted)?.[3] ?? ''
  return options.split(',').includes('noexec')
}
