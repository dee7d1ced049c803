/**
 * Lets several test files run in one process, one after the other. To load the server takes longer than most files need for
 * their tests, and the first tests of a process run code that is not optimised yet.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

/**
 * The folders whose files share processes. The other tests take long, need a browser, end processes or measure their own
 * process.
 */
const shared = /^(src|test\/flows)\//

/** How many files run in one process. With more, the last process would run alone for a long time. */
const filesOfProcess = 8

/**
 * Returns the files to give to the test runner, which starts a process for each. A file that stands for several has a suite
 * for each of them; it is written to `folder`.
 */
export async function shareProcesses(files: string[], folder: string): Promise<string[]> {
  const together = files.filter((file) => shared.test(file))
  const groups = Array.from({ length: Math.ceil(together.length / filesOfProcess) }, (_, index) =>
    together.slice(index * filesOfProcess, (index + 1) * filesOfProcess),
  )
  await mkdir(folder)
  const written = groups.map(async (group, index) => {
    const name = join(folder, `${String(index).padStart(2, '0')}.test.ts`)
    await writeFile(name, `import { describe } from 'node:test'\n${group.map(asSuite).join('')}`)
    return name
  })
  return [...(await Promise.all(written)), ...files.filter((file) => !shared.test(file))]
}

/** In a suite, the hooks `before` and `after` of a file run when its tests begin and end. */
const asSuite = (file: string) =>
  `describe(${JSON.stringify(file)}, () => import(${JSON.stringify(pathToFileURL(resolve(file)))}))\n`
