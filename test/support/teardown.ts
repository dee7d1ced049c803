/**
 * Closes the resources of a test in the reverse order of their opening: the browser before its server, the second node
 * before the database of the first. `t.after` alone would close the server before the browser. Then an open page would
 * call the closed server, and the handler of this call would fail after the test has ended.
 */
import { after, before, type TestContext } from 'node:test'

type Close = () => unknown

const opened = new WeakMap<TestContext, Close[]>()

/**
 * Calls `close` after the test, before resources that were opened earlier are closed. `close` is called even if closing
 * another resource fails.
 */
export function closeAfter(t: TestContext, close: Close): void {
  const known = opened.get(t)
  if (known) {
    known.push(close)
    return
  }
  const closing = [close]
  opened.set(t, closing)
  t.after(async () => {
    const failures: unknown[] = []
    for (let next = closing.pop(); next !== undefined; next = closing.pop()) {
      try {
        await next()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  })
}

/**
 * Opens a resource before the tests of a suite, and closes it after the last test. For tests that do not affect each
 * other. Returns a function that returns the resource.
 */
export function openForSuite<Opened>(open: (t: TestContext) => Promise<Opened>): () => Opened {
  let opened: Opened
  const closing: Close[] = []
  before(async () => {
    opened = await open({ after: (close: Close) => closing.push(close) } as unknown as TestContext)
  })
  after(async () => {
    for (const close of closing.reverse()) await close()
  })
  return () => opened
}
