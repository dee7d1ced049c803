/**
 * A program that applies migrations when a line arrives on its standard input: `node migrating.ts <database url>
 * <folder>`.
 */
import { once } from 'node:events'
import { systemClock } from '../../src/platform/clock.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

const [url = '', folder = ''] = process.argv.slice(2)
console.log('ready')
await once(process.stdin, 'data')
const database = await openDatabase(url, { log: createLog('warn'), clock: systemClock })
console.log(JSON.stringify(await migrate(database, systemClock, folder)))
await database.close()
process.exit(0)
