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
 * Creates the folder in memory if there is enough free memory. A test run creates and removes thousands of databases,
 * and each of them is hundreds of files on a disk. The results of tests do not depend on the disk, because tests end
 * processes and never the machine.
 */
export async function makeScratch(): Promise<Scratch> {
  const folder = await mkdtemp(join((await hasRoomInMemory()) ? inMemory : tmpdir(), 'doorbell-tests-'))
  // Postgres may run with another account, which must be able to enter this folder.
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

/**
 * Resolves to whether programs in this mounted file system cannot be executed. The binaries of Postgres may be copied
 * to the folder, so it must permit programs.
 */
async function forbidsPrograms(mounted: string): Promise<boolean> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').map((line) => line.split(' '))
  const options = mounts.find(([, where]) => where === mounted)?.[3] ?? ''
  return options.split(',').includes('noexec')
}
