/**
 * Lets several test files run in one process, one after the other. This saves time: loading the server takes longer
 * than the tests of most files, and the first tests of a process run code that is not optimised yet.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

/**
 * The folders whose test files share processes. Other tests have their own process, because they take long, need a
 * browser, end processes or measure their own process.
 */
const shared = /^(src|test\/flows)\//

/** The number of files that run in one process. With more files, the last process would run alone for a long time. */
const filesOfProcess = 8

/**
 * Returns the files to pass to the test runner, which starts a process for each of them. Some are new files in
 * `folder`: each of these contains a suite for each of several test files.
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

/**
 * Returns the code of a suite that imports a test file. Because of the suite, the hooks `before` and `after` of the
 * file run when its tests begin and end.
 */
const asSuite = (file: string) =>
  `describe(${JSON.stringify(file)}, () => import(${JSON.stringify(pathToFileURL(resolve(file)))}))\n`
