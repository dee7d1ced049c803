/**
 * Resources of a test are closed in the opposite order of opening: the browser before its server, the second node
 * before the database of the first. `t.after` alone closes the server first; an open page then calls it again, and the
 * test's handler of these calls fails after the test has ended.
 */
import type { TestContext } from 'node:test'

type Close = () => unknown

const opened = new WeakMap<TestContext, Close[]>()

/** Calls `close` after the test, before resources that were opened earlier are closed, even if others fail. */
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
