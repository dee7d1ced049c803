/** The keys by which push services recognise this server (RFC 8292): made on first start, the same on all nodes. */
import type { Clock } from '../../platform/clock.ts'
import type { Vault } from '../../platform/crypto.ts'
import type { ServerKeyStore } from './server-key-store.ts'

/** Both base64url. A browser subscribes for the public one: with another it would have to subscribe anew. */
export interface VapidKeys {
  publicKey: string
  privateKey: string
}

const name = 'vapid'
const place = 'server_keys/vapid'

export async function loadVapidKeys(needs: { keys: ServerKeyStore; vault: Vault; clock: Clock }): Promise<VapidKeys> {
  const { keys, vault } = needs
  if ((await keys.find(name)) === undefined) await makeFirst(needs)
  const kept = (await keys.find(name))!
  return { publicKey: kept.public, privateKey: vault.open(kept.sealed, place) }
}

async function makeFirst({ keys, vault, clock }: { keys: ServerKeyStore; vault: Vault; clock: Clock }): Promise<void> {
  const { default: webPush } = await import('web-push')
  const { publicKey, privateKey } = webPush.generateVAPIDKeys()
  await keys.add({ name, public: publicKey, sealed: vault.seal(privateKey, place), createdAt: clock.now() })
}
