/**
 * `doorbell client add` and `doorbell doctor` name a client that registered itself under the name of another client, or a name
 * that looks like it.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { toClient } from '../../src/client/configured-clients.ts'
import { readClientMetadata } from '../../src/client/metadata/read-client-metadata.ts'
import { createRegistrationStore } from '../../src/client/registration/registration-store.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { profiles } from '../../src/platform/security-profile.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { engines } from '../support/engines.ts'
import { closeAfter } from '../support/teardown.ts'
import { openTerminal } from './terminal.ts'

for (const [engine, name] of engines.flatMap((engine) =>
  ['Corner Café', 'C!rner Café'].map((name) => [engine, name] as const),
)) {
  describe(`a client that registered itself as "${name}", on ${engine.name}`, () => {
    test('is named when the operator adds a client with this name, and by the doctor', async (t) => {
      const { url, drop } = await engine.fresh()
      closeAfter(t, drop)
      const secret = newSecret()
      const terminal = await openTerminal(t, { DOORBELL_SECRET: secret, DOORBELL_DATABASE: url })
      await terminal.run(['migrate'])
      await registerItself(url, secret, name)
      const says = /its-own-cafe, which registered itself, has the name of the client cafe, or one that looks like it:/
      const doctor = async () => {
        const { findings } = (await terminal.json(['doctor'])) as { findings: { state: string; says: string }[] }
        return findings.filter(({ says }) => says.includes('registered itself'))
      }
      const other = await terminal.run(['client', 'add', '--id', 'bakery', '--name', 'Bakery', '--mode', 'poll'])
      assert.doesNotMatch(other.stderr, /registered itself/)
      assert.deepEqual(await doctor(), [])
      const added = await terminal.run(['client', 'add', '--id', 'cafe', '--name', 'CORNER cafe', '--mode', 'poll'])
      assert.match(added.stderr, says)
      const [finding, ...more] = await doctor()
      assert.deepEqual([finding?.state, more], ['warn', []])
      assert.match(finding!.says, says)
    })
  })
}

async function registerItself(url: string, secret: string, client_name: string): Promise<void> {
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  const metadata = {
    client_id: 'its-own-cafe',
    client_name,
    client_secret: newSecret(),
    grant_types: ['urn:openid:params:grant-type:ciba'],
    backchannel_token_delivery_mode: 'poll',
  }
  const context = { development: false, profile: profiles.core, seesCertificates: false, detailTypes: [] }
  const read = readClientMetadata(metadata, context)
  assert.ok('client' in read, JSON.stringify(read))
  const client = toClient(read.client, createVault(secret))
  assert.ok(await createRegistrationStore(database).addOpen(client, newSecret(), 'a network', 10, Date.now()))
  await database.close()
}
