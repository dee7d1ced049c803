/**
 * The key pair by which push services identify this server (RFC 8292). The key pair is generated at the first start and
 * is the same on all nodes.
 */
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { ServerKeyStore } from './server-key-store.ts'

/**
 * Both keys are base64url. Browsers subscribe with the public key. If the key pair changed, all browsers would have to
 * subscribe again.
 */
export interface VapidKeys {
  publicKey: string
  privateKey: string
}

const name = 'vapid'
const aad = 'server_keys/vapid'

/**
 * Reads the keys, or generates them if there are none. All nodes get the same keys, even if several nodes call this
 * function at the same time.
 */
export async function loadVapidKeys(needs: { keys: ServerKeyStore; vault: Vault; clock: Clock }): Promise<VapidKeys> {
  const { keys, vault } = needs
  if ((await keys.find(name)) === undefined) await makeFirst(needs)
  const kept = (await keys.find(name))!
  return { publicKey: kept.public, privateKey: vault.open(kept.sealed, aad) }
}

async function makeFirst({ keys, vault, clock }: { keys: ServerKeyStore; vault: Vault; clock: Clock }): Promise<void> {
  const { default: webPush } = await import('web-push')
  const { publicKey, privateKey } = webPush.generateVAPIDKeys()
  await keys.add({ name, public: publicKey, sealed: vault.seal(privateKey, aad), createdAt: clock.now() })
}
