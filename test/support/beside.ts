import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Stage } from './stage.ts'

/** Runs `work` on its own connection to the database of a server, as another process would. */
export async function withDatabase(stage: Stage, work: (database: Database) => Promise<void>): Promise<void> {
  const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
  try {
    await work(database)
  } finally {
    await database.close()
  }
}
