/** A database that records its statements. For tests that compare the statements of two kinds of calls. */

import type { DoorbellOptions } from '../../src/doorbell.ts'
import {
  type Database,
  resolveFollowUps,
  type Statement,
  type Value,
  valuesOf,
} from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

export interface Statements {
  openDatabase: NonNullable<DoorbellOptions['openDatabase']>
  /** Resolves to the SQL that `work` causes, in order. */
  during(work: () => Promise<unknown>): Promise<string[]>
}

export function listenToStatements(): Statements {
  let heard: string[] = []
  const hear = ({ sql }: Pick<Statement, 'sql'>) => void heard.push(sql.replaceAll(/\s+/g, ' '))
  return {
    async openDatabase(...arguments_) {
      const database = await openDatabase(...arguments_)
      const listened: Database = {
        ...database,
        get listening() {
          return database.listening
        },
        get epoch() {
          return database.epoch
        },
        get clockOffset() {
          return database.clockOffset
        },
        read(sql, values) {
          hear({ sql })
          return database.read(sql, values)
        },
        step(first, options) {
          hear(first)
          const also = (rows: never[]) => {
            const statements = resolveFollowUps(options?.also, rows)
            statements.forEach(hear)
            return statements
          }
          return database.step(first, { ...options, also })
        },
      }
      return listened
    },
    async during(work) {
      heard = []
      await work()
      // The lookup of the client is removed, because it is made only if the client is not cached.
      return heard.filter((sql) => sql !== 'select * from clients where id = $1')
    },
  }
}

/**
 * Returns an `openDatabase`, and the statements that its databases have executed, each with the values of its last use.
 */
export function collectStatements() {
  const collected = new Map<string, Value[]>()
  const collect = (statement: Statement) => void collected.set(statement.sql, valuesOf(statement))
  const open: NonNullable<DoorbellOptions['openDatabase']> = async (...arguments_) => {
    const database = await openDatabase(...arguments_)
    return {
      ...database,
      get listening() {
        return database.listening
      },
      get epoch() {
        return database.epoch
      },
      get clockOffset() {
        return database.clockOffset
      },
      read(sql, values = []) {
        collect({ sql, values })
        return database.read(sql, values)
      },
      step(first, options) {
        collect(first)
        const also = (rows: never[]) => {
          const statements = resolveFollowUps(options?.also, rows)
          statements.forEach(collect)
          return statements
        }
        return database.step(first, { ...options, also })
      },
    }
  }
  return { openDatabase: open, collected }
}
