/** Rotates signing keys while a server runs, as the command `doorbell keys rotate` does. */
import type { KeyTimes, RotationNeeds } from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore } from '../../src/openid-provider/signing-keys/signing-key-store.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Stage } from './stage.ts'
import { until } from './until.ts'

/**
 * Rotates keys on its own database connection, like the command in another process. On SQLite, the server is not
 * notified.
 */
export async function rotateAt<Result>(
  { clock, database: url }: Stage,
  times: KeyTimes,
  rotate: (needs: RotationNeeds) => Promise<Result>,
): Promise<Result> {
  const database = await openDatabase(url, { log: createLog('silent'), clock })
  try {
    const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))
    return await rotate({ keys: createSigningKeyStore(database), vault, clock, times })
  } finally {
    await database.close()
  }
}

/**
 * Waits until `holds` returns true. On SQLite, advances the clock, because the server is not notified by other
 * processes but checks every five seconds.
 */
export async function untilNoticed(stage: Stage, holds: () => boolean | Promise<boolean>): Promise<void> {
  const onSqlite = stage.database.startsWith('sqlite:')
  if (onSqlite) stage.clock.advance(5000)
  await until(holds)
}
