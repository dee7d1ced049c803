/** A reporter for Node's test runner. It prints the files that contain a failed test, one per line. */
import { relative } from 'node:path'
import type { TestEvent } from 'node:test/reporters'

export default async function* failedFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const named = new Set<string>()
  for await (const event of events) {
    if (event.type !== 'test:fail') continue
    const { file, details } = event.data
    // A suite fails if one of its tests fails, and this test may be in another file. So the failure of a suite is
    // ignored.
    const isOfItsTests = (details.error as { failureType?: string }).failureType === 'subtestsFailed'
    if (isOfItsTests || !file || named.has(file)) continue
    named.add(file)
    yield `${relative(process.cwd(), file)}\n`
  }
}
