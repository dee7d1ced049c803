/**
 * Signing keys for servers in tests. They are generated once and used by many servers, because the generation of an RSA
 * key takes a third of the start time of a server.
 */
import { createSigningKeyStore, type NewKey } from '../../src/openid-provider/signing-keys/signing-key-store.ts'
import { keyAlgorithms, makeKey, signingKeyAad } from '../../src/openid-provider/signing-keys/signing-keys.ts'
import type { Clock } from '../../src/platform/clock.ts'
import { createVault, type Vault } from '../../src/platform/crypto.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'

/** Sets of keys. Servers use them in turn, so that the servers of one test have different keys. */
const sets: Promise<NewKey[]>[] = []
const mostSets = 4
let used = 0

/**
 * The sets are encrypted with this vault. For each server, they are decrypted and encrypted again with the vault of the
 * server.
 */
const ownVault = createVault(Buffer.alloc(32, 1).toString('base64url'))

/**
 * Returns an `openDatabase` that also creates all tables, and adds keys that sign from now on. Existing keys are kept.
 */
export function openWithKeys({ secret, clock }: { secret: string; clock: Clock }): typeof openDatabase {
  return async (...about) => {
    const database = await openDatabase(...about)
    try {
      await migrate(database, clock)
      const store = createSigningKeyStore(database)
      if ((await store.list()).length === 0) {
        for (const key of await nextKeys()) await store.add(encryptedFor(createVault(secret), key, clock.now()))
      }
      return database
    } catch (error) {
      await database.close()
      throw error
    }
  }
}

function nextKeys(): Promise<NewKey[]> {
  const number = used++ % mostSets
  sets[number] ??= Promise.all(
    keyAlgorithms.map((algorithm) => makeKey({ algorithm, generation: 1, now: 0, signsFrom: 0 }, ownVault)),
  )
  return sets[number]
}

function encryptedFor(vault: Vault, key: NewKey, now: number): NewKey {
  const aad = signingKeyAad(key.kid)
  return {
    ...key,
    privateSealed: vault.seal(ownVault.open(key.privateSealed, aad), aad),
    createdAt: now,
    signsFrom: now,
  }
}
