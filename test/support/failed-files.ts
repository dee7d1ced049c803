/** A reporter of Node's test runner: the files of the tests that failed, one a line. */
import { relative } from 'node:path'
import type { TestEvent } from 'node:test/reporters'

export default async function* failedFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const named = new Set<string>()
  for await (const event of events) {
    if (event.type !== 'test:fail') continue
    const { file, details } = event.data
    // A suite fails with its tests, which may be of another file.
    const isOfItsTests = (details.error as { failureType?: string }).failureType === 'subtestsFailed'
    if (isOfItsTests || !file || named.has(file)) continue
    named.add(file)
    yield `${relative(process.cwd(), file)}\n`
  }
}
