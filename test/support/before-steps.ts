/**
 * Databases that call a function of the test before certain transactions begin. The function may delay the transaction.
 */
import type { DoorbellOptions } from '../../src/doorbell.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

/**
 * @param statement selects the transactions whose first statement matches
 * @param before called before each of these transactions; the transaction begins when the promise resolves
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
 * Returns an `openDatabase` that calls `before` at the beginning of `inLockOrder`, before a step waits for its lock
 * keys. If the step were delayed after it got its lock keys, other transactions with the same keys could not run first.
 *
 * @param before may delay the step by the promise that it returns
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
