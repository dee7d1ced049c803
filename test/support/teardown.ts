/**
 * What a test has opened is closed in the opposite order: the browser before the server it looks at, the second node
 * before the database of the first. `t.after` alone closes the server first, and a page that is still open then comes
 * back to it: what answers the page's calls in the test runs on after the test has ended, and fails there.
 */
import type { TestContext } from 'node:test'

type Close = () => unknown

const opened = new WeakMap<TestContext, Close[]>()

/** `close` is called when the test is over, before what was opened earlier is closed, whether or not others fail. */
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
