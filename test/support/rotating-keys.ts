/** Rotations of signing keys, as the command `doorbell keys rotate` makes them beside a running server. */
import type { KeyTimes, RotationNeeds } from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore } from '../../src/openid-provider/signing-keys/signing-key-store.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import type { Stage } from './stage.ts'
import { until } from './until.ts'

/** Like the command: in another process, which on SQLite cannot notify the server. */
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

/** On SQLite there are no notifications from other processes: the server checks every five seconds. */
export async function untilNoticed(stage: Stage, holds: () => boolean | Promise<boolean>): Promise<void> {
  const onSqlite = stage.database.startsWith('sqlite:')
  if (onSqlite) stage.clock.advance(5000)
  await until(holds)
}
