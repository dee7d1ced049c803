/** A database of which some transactions are announced to the test, or held up by it, before they begin. */
import type { DoorbellOptions } from '../../src/doorbell.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

/**
 * @param statement the transactions whose first statement matches
 * @param before called before each of them; the transaction waits for it
 */
export function beforeSteps(
  statement: RegExp,
  before: () => Promise<void>,
): NonNullable<DoorbellOptions['openDatabase']> {
  return async (...about) => {
    const database = await openDatabase(...about)
    const { step } = database
    database.step = async (first, options) => {
      if (statement.test(first.sql)) await before()
      return step(first, options)
    }
    return database
  }
}

/**
 * Moves of requests wait for their lock keys before their transaction begins. They must be held up before that: otherwise
 * the transactions that the test wants to come first would wait for the same keys.
 *
 * @param before called before each move waits for its lock keys
 */
export function beforeTurns(before: () => Promise<void>): NonNullable<DoorbellOptions['openDatabase']> {
  return async (...about) => {
    const database = await openDatabase(...about)
    const { inLockOrder } = database
    database.inLockOrder = async (lockKeys, work, how) => {
      await before()
      return inLockOrder(lockKeys, work, how)
    }
    return database
  }
}
