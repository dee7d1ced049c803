/** `doorbell keys`: rotation beside a server, and the output of the commands and of `doorbell doctor`. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { createSigningKeyStore } from '../../src/openid-provider/signing-keys/signing-key-store.ts'
import { loadSigningKeys } from '../../src/openid-provider/signing-keys/signing-keys.ts'
import { systemClock } from '../../src/platform/clock.ts'
import { createVault } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createStageClock } from '../support/clock.ts'
import { freePort } from '../support/ports.ts'
import { until } from '../support/until.ts'
import { cleanAfterSuite, openTerminal, type Terminal } from './terminal.ts'

const secret = 's'.repeat(43)
const hour = 3600_000

interface ShownKey {
  kid: string
  algorithm: string
  state: string
  signs_from: string
  retired_at?: string
  published_until?: string
  verifies_until?: string
  revoked_at?: string
}

interface ShownRotation {
  algorithm: string
  outcome: string
  next: ShownKey
  former?: ShownKey
  revoked: ShownKey[]
}

describe('beside a server', () => {
  const suite = cleanAfterSuite()
  let terminal: Terminal
  let port: number

  before(async () => {
    terminal = await openTerminal(suite, { DOORBELL_SECRET: secret })
    port = await freePort()
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ port, development: true }))
    await terminal.serve([])
  })

  const rotate = async (...options: string[]) =>
    (await terminal.json(['keys', 'rotate', ...options])).rotations as ShownRotation[]
  const published = async () => {
    const { keys } = (await (await fetch(`http://localhost:${port}/oauth/jwks`)).json()) as { keys: { kid: string }[] }
    return keys.map(({ kid }) => kid)
  }
  const listed = async () => (await terminal.json(['keys', 'list'])).keys as ShownKey[]

  test('rotate prints the times of each change, the server publishes the key, and a second rotation does nothing', async () => {
    const { code, stdout } = await terminal.run(['keys', 'rotate'])
    assert.equal(code, 0)
    for (const algorithm of ['ES256', 'RS256 and PS256']) {
      const time = String.raw`\d{4}-\d\d-\d\dT[\d:.]+Z`
      const told = new RegExp(
        `^${algorithm}: the next key is (\\S+)\n` +
          `  published since ${time} \\(.* ago\\)\n` +
          `  signs from ${time} \\(in \\d+ min\\)\n` +
          `\\S+ signs until then\n` +
          `  stays published until ${time} .*\n` +
          `  verifies ID tokens given as hints until ${time}`,
        'm',
      )
      const [, kid] = told.exec(stdout) ?? assert.fail(stdout)
      await until(async () => (await published()).includes(kid!))
    }
    assert.equal((await published()).length, 4)

    const again = await terminal.run(['keys', 'rotate', '--alg', 'ES256'])
    assert.equal(again.code, 0)
    assert.match(again.stdout, /^ES256: nothing to do, \S+ is the next\n/)
    assert.doesNotMatch(again.stdout, /RS256/)
    assert.equal((await listed()).length, 4)
    const list = await terminal.run(['keys'])
    assert.match(list.stdout, /ES256 +2 .*published, signs in/)
    assert.match(list.stdout, /ES256 +1 .*signs until \d{4}/)
  })

  test('--now works with the name of either RSA algorithm', async () => {
    const [rotation, ...others] = await rotate('--alg', 'PS256', '--now')
    assert.deepEqual([rotation!.algorithm, rotation!.outcome, others.length], ['RS256', 'rotated', 0])
    assert.equal(rotation!.next.state, 'signing')
    assert.equal(rotation!.former!.state, 'retired')
    assert.equal(rotation!.former!.retired_at, rotation!.next.signs_from)
    assert.ok(rotation!.former!.published_until! > rotation!.former!.retired_at!)
    assert.ok(rotation!.former!.verifies_until! > rotation!.former!.published_until!)
  })

  test('--now --revoke affects that algorithm only, and revokes a waiting key with it', async () => {
    const lost = (await listed()).find(({ algorithm, state }) => algorithm === 'ES256' && state === 'signing')!
    assert.match((await terminal.run(['keys', 'rotate', '--revoke', lost.kid])).stderr, /--revoke needs --now/)
    const [rotation, ...others] = await rotate('--now', '--revoke', lost.kid)
    assert.equal(others.length, 0)
    assert.equal(rotation!.next.state, 'signing')
    assert.deepEqual(new Set(rotation!.revoked.map(({ state }) => state)), new Set(['revoked']))
    assert.equal(rotation!.revoked.length, 2)
    await until(async () => {
      const kids = await published()
      return kids.includes(rotation!.next.kid) && !kids.includes(lost.kid)
    })
    assert.match((await terminal.run(['keys'])).stdout, new RegExp(`${lost.kid} .*revoked .* ago`))

    const again = await terminal.run(['keys', 'rotate', '--now', '--revoke', lost.kid])
    assert.equal(again.code, 1)
    assert.match(again.stderr, /There is no key \S+ to revoke/)
    const { code, stdout } = await terminal.run(['doctor'])
    assert.equal(code, 0, stdout)
    assert.match(stdout, /ok +keys +2 keys sign \(ES256, RS256\)/)
  })

  test('an unknown algorithm is an error', async () => {
    const { code, stderr } = await terminal.run(['keys', 'rotate', '--alg', 'HS256'])
    assert.equal(code, 1)
    assert.match(stderr, /Allowed choices are ES256, RS256, PS256, all/)
  })
})

describe('the doctor', () => {
  const suite = cleanAfterSuite()

  /** Returns the finding about keys that were created `age` milliseconds ago. */
  async function findingOf(age: number, settings: object, change = 'select 1 as one'): Promise<Record<string, string>> {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: secret })
    const config = { issuer: 'https://id.example.com', ...settings }
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
    const url = `sqlite:${join(terminal.cwd, 'doorbell.db')}`
    const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
    await migrate(database, systemClock)
    const clock = createStageClock(Date.now() - age)
    const vault = createVault(secret)
    await loadSigningKeys({ keys: createSigningKeyStore(database), vault, clock })
    await database.step({ sql: change, values: [] })
    await database.close()
    const { findings } = (await terminal.json(['doctor'])) as { findings: Record<string, string>[] }
    return findings.find(({ about }) => about === 'keys')!
  }

  test('warns of an overdue rotation, if rotation is configured', async () => {
    const keys = { rotateEvery: 7200 }
    assert.equal((await findingOf(3 * hour, {})).state, 'ok')
    assert.equal((await findingOf(hour, { keys })).state, 'ok')
    const overdue = await findingOf(3 * hour, { keys })
    assert.equal(overdue.state, 'warn')
    assert.match(overdue.says!, /ES256 and RS256 should have been rotated/)
    assert.match(overdue.advice!, /keys rotate/)
  })

  test('reports that no key signs', async () => {
    const retire = `update signing_keys set retired_at = created_at + 1, published_until = created_at + 2,
                    verifies_until = created_at + 3 where algorithm = 'ES256' returning kid`
    const none = await findingOf(hour, {}, retire)
    assert.equal(none.state, 'fail')
    assert.match(none.says!, /no key signs with ES256/)
  })
})
