import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Client, isCibaClient, isDeviceService, mayAskFor, mayInitiate, mayUseGrant } from './client.ts'
import { CIBA_GRANT, type ClientMetadata, type DeliveryMode } from './metadata/client-metadata.ts'

function client(deliveryMode: DeliveryMode | undefined, grants: string[], more: Partial<ClientMetadata> = {}): Client {
  const metadata = { client_id: 'c', grant_types: grants, ...more } as ClientMetadata
  return {
    id: 'c',
    metadata,
    deliveryMode,
    notificationEndpoint: undefined,
    secretHash: undefined,
    secretSealed: undefined,
  }
}

describe('which clients may send requests, get tokens and decide (CIBA §4, §7.1)', () => {
  const service = { backchannel_device_service: true }
  const table: [name: string, client: Client, ring: boolean, grant: boolean, could: boolean, decides: boolean][] = [
    ['poll', client('poll', [CIBA_GRANT]), true, true, true, false],
    ['poll without the grant', client('poll', []), false, false, true, false],
    ['ping', client('ping', [CIBA_GRANT]), true, true, true, false],
    ['push needs no grant', client('push', []), true, false, true, false],
    ['the grant without a mode', client(undefined, [CIBA_GRANT]), false, true, true, false],
    ['a web app', client(undefined, ['authorization_code']), false, false, false, false],
    ['a device service', client(undefined, [], service), false, false, false, true],
    ['a device service that has the grant', client(undefined, [CIBA_GRANT], service), false, true, true, false],
    ['a device service that has a mode', client('push', [], service), true, false, true, false],
    [
      'an incomplete device service',
      client(undefined, [], { backchannel_device_service: 'true' as never }),
      false,
      false,
      false,
      false,
    ],
  ]
  for (const [name, who, ring, grant, could, decides] of table) {
    test(name, () => {
      assert.deepEqual(
        { ring: mayInitiate(who), grant: mayUseGrant(who), could: isCibaClient(who), decides: isDeviceService(who) },
        { ring, grant, could, decides },
      )
    })
  }
})

describe('the scopes a client may ask for', () => {
  const known = ['openid', 'email', 'phone']
  for (const [scope, allowed] of [
    [undefined, known],
    ['openid email', ['openid', 'email']],
    ['openid admin', ['openid']],
    ['', []],
  ] as [string | undefined, string[]][]) {
    test(`registered for ${scope ?? 'nothing in particular'}: ${allowed.join(', ') || 'none'}`, () => {
      const who = client('poll', [CIBA_GRANT], scope === undefined ? {} : { scope })
      const asked = [...known, 'admin']
      assert.deepEqual(
        asked.filter((one) => mayAskFor(one, who, known)),
        allowed,
      )
    })
  }
})
