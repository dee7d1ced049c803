/** Builds the parts for the keys that sign tokens. */
import { keyTimesOf } from '../openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore } from '../openid-provider/signing-keys/signing-key-store.ts'
import { createSigningKeyWatch } from '../openid-provider/signing-keys/signing-key-watch.ts'
import type { Platform } from './platform.ts'

export type SigningKeys = Awaited<ReturnType<typeof composeSigningKeys>>

export async function composeSigningKeys({ config, database, vault, clock, log, audit }: Platform) {
  const store = createSigningKeyStore(database)
  const watch = await createSigningKeyWatch({
    keys: store,
    times: keyTimesOf(config),
    onChange: (listener) => database.listen('signing_keys', listener),
    vault,
    clock,
    log,
    audit,
  })
  return { store, watch }
}
