/**
 * The guarantees of the signing keys, on both engines. Each rotation is one step, even if others run at the same time.
 */
import assert from 'node:assert/strict'
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import {
  isOverdue,
  type KeyTimes,
  keyTimesOf,
  type RotationNeeds,
  revokeKey,
  rotateKey,
  rotateWhatIsDue,
} from '../../src/openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore, type KeptKey } from '../../src/openid-provider/signing-keys/signing-key-store.ts'
import {
  loadSigningKeys,
  makeKey,
  signingKeysAt,
  stateOf,
} from '../../src/openid-provider/signing-keys/signing-keys.ts'
import { createLog } from '../../src/platform/log.ts'
import { type Database, resolveFollowUps } from '../../src/platform/storage/database.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createStageClock } from '../support/clock.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished, vault } from '../support/rows.ts'

const migrations = join(import.meta.dirname, '../../src/platform/storage/migrations')
const hour = 3600_000
const day = 24 * hour
const minute = 60_000
const times: KeyTimes = { publishAhead: hour, tokensLast: hour, hintsLast: 30 * day }

for (const engine of engines) {
  describe(`signing keys, on ${engine.name}`, () => {
    test('two nodes that start at once on an empty table end up with the same keys', async (t) => {
      const { nodes } = await keyed(t, engine)
      const loaded = await Promise.all([...nodes, ...nodes].map(loadSigningKeys))
      for (const keys of loaded) assert.deepEqual(keys, loaded[0])
      const kept = await nodes[0]!.keys.list()
      assert.deepEqual(kept.map(nameOf), ['ES256 1', 'RS256 1'])
      assert.ok(loaded[0]!.public.every((key) => key.d === undefined))
      const secretParts = loaded[0]!.private.map((key) => key.d!)
      assert.ok(secretParts.every((d) => !JSON.stringify(kept).includes(d)))
    })

    test('a key changes its state by the clock alone', async (t) => {
      const { one, clock } = await keyed(t, engine)
      await loadSigningKeys(one)
      const start = clock.now()
      assert.equal((await rotateKey('ES256', {}, one)).outcome, 'rotated')
      const kept = (await one.keys.list()).filter(({ algorithm }) => algorithm === 'ES256')
      const [next, first] = kept.map(({ kid }) => kid)
      const life = [
        [0, ['published', 'signing'], [first, next], [first, next]],
        [hour - 1, ['published', 'signing'], [first, next], [first, next]],
        [hour, ['signing', 'retired'], [next, first], [next, first]],
        [2 * hour - 1, ['signing', 'retired'], [next, first], [next, first]],
        [2 * hour, ['signing', 'unpublished'], [next], [next, first]],
        [30 * day + hour - 1, ['signing', 'unpublished'], [next], [next, first]],
        [30 * day + hour, ['signing', 'removed'], [next], [next]],
      ] as const
      for (const [after, states, published, verifying] of life) {
        const now = start + after
        assert.deepEqual(
          kept.map((key) => stateOf(key, now)),
          states,
          `after ${after}`,
        )
        const keys = signingKeysAt(kept, now, vault)
        assert.deepEqual(kidsOf(keys.published), published)
        assert.deepEqual(kidsOf(keys.public), verifying)
        // oidc-provider signs with the first key.
        assert.deepEqual(kidsOf(keys.private), verifying)
      }
      await one.keys.forgetRemoved(start + 30 * day + hour - 1)
      assert.equal((await one.keys.list()).length, 3)
      await one.keys.forgetRemoved(start + 30 * day + hour)
      assert.deepEqual((await one.keys.list()).map(nameOf), ['ES256 2', 'RS256 1'])
    })

    test('forty rotations at once, at two nodes, are one', async (t) => {
      const { nodes, one } = await keyed(t, engine)
      await loadSigningKeys(one)
      const rotations = await Promise.all(Array.from({ length: 40 }, (_, n) => rotateKey('ES256', {}, nodes[n % 2]!)))
      assert.equal(rotations.filter(({ outcome }) => outcome === 'rotated').length, 1)
      assert.equal(new Set(rotations.map(({ next }) => next.kid)).size, 1, 'all get the same key')
      assert.deepEqual((await one.keys.list()).map(nameOf), ['ES256 2', 'ES256 1', 'RS256 1'])
      assert.equal((await rotateKey('ES256', {}, one)).outcome, 'under_way', 'nor does one a little later')
    })

    test('a rotation with --now gets a new key at once, also beside rotations without it', async (t) => {
      const { nodes, one, clock } = await keyed(t, engine)
      await loadSigningKeys(one)
      const rotations = Array.from({ length: 20 }, (_, n) =>
        rotateKey('RS256', { atOnce: n % 2 === 0 }, nodes[(n % 4) >> 1]!),
      )
      await Promise.all(rotations)
      const kept = (await one.keys.list()).filter(({ algorithm }) => algorithm === 'RS256')
      assert.deepEqual(signingAmong(kept, clock.now()), 1)
      assert.ok(kept.find((key) => stateOf(key, clock.now()) === 'signing')!.generation > 1)
    })

    test('--now lets a key that waits already sign, and makes no other', async (t) => {
      const { one, clock } = await keyed(t, engine)
      await loadSigningKeys(one)
      const waiting = (await rotateKey('ES256', {}, one)).next
      clock.advance(minute)
      const hastened = await rotateKey('ES256', { atOnce: true }, one)
      assert.equal(hastened.outcome, 'rotated')
      assert.deepEqual([hastened.next.kid, hastened.next.signsFrom], [waiting.kid, clock.now()])
      assert.deepEqual(hastened.former!.retirement, {
        at: clock.now(),
        publishedUntil: clock.now() + hour,
        verifiesUntil: clock.now() + 30 * day,
      })
      assert.deepEqual((await one.keys.list()).map(nameOf), ['ES256 2', 'ES256 1', 'RS256 1'])
    })

    test('a revoked key cannot be used, and the key that waited beside it is removed too', async (t) => {
      const { one, clock } = await keyed(t, engine)
      const before = await loadSigningKeys(one)
      const lost = before.private[0]!.kid!
      const waiting = (await rotateKey('ES256', {}, one)).next.kid
      clock.advance(minute)
      const rotation = await revokeKey(lost, one)
      assert.deepEqual(new Set(rotation!.revoked.map(({ kid }) => kid)), new Set([lost, waiting]))
      const keys = signingKeysAt(await one.keys.list(), clock.now(), vault)
      for (const list of [keys.private, keys.published, keys.public]) {
        assert.deepEqual(kidsOf(list), [rotation!.next.kid, before.private[1]!.kid])
      }
      const rows = await allRows(one.database, 'signing_keys')
      const revoked = rows.filter(({ revoked_at }) => revoked_at !== null)
      assert.deepEqual(
        revoked.map(({ private_sealed }) => private_sealed),
        [null, null],
        'the private halves are erased',
      )
      assert.equal(await revokeKey(lost, one), undefined, 'a second time there is nothing to revoke')
      assert.equal(await revokeKey('nobody', one), undefined)
      clock.advance(400 * day)
      await one.keys.forgetRemoved(clock.now())
      assert.equal((await one.keys.list()).filter(({ revokedAt }) => revokedAt !== undefined).length, 2)
    })

    test('a retired key can be revoked too, without an effect on the one that signs', async (t) => {
      const { one, clock } = await keyed(t, engine)
      const [first] = (await loadSigningKeys(one)).private
      await rotateKey('ES256', { atOnce: true }, one)
      clock.advance(day)
      await revokeKey(first!.kid!, one)
      const kept = (await one.keys.list()).filter(({ algorithm }) => algorithm === 'ES256')
      assert.deepEqual(
        kept.map((key) => stateOf(key, clock.now())),
        ['signing', 'retired', 'revoked'],
      )
      assert.equal(kept[2]!.retirement!.at, clock.now() - day, 'when it retired stays known')
    })

    test('a revocation is carried out whatever other rotations run', async (t) => {
      const { nodes, one, clock } = await keyed(t, engine)
      const lost = (await loadSigningKeys(one)).private[0]!.kid!
      const others = Array.from({ length: 10 }, (_, n) => rotateKey('ES256', { atOnce: n % 2 === 0 }, nodes[n % 2]!))
      const revocations = [revokeKey(lost, nodes[0]!), revokeKey(lost, nodes[1]!)]
      await Promise.all([...others, ...revocations])
      const carriedOut = (await Promise.all(revocations)).filter((rotation) => rotation !== undefined)
      assert.equal(carriedOut.length, 1)
      const kept = (await one.keys.list()).filter(({ algorithm }) => algorithm === 'ES256')
      assert.ok(kept.find(({ kid }) => kid === lost)!.revokedAt !== undefined)
      assert.deepEqual(signingAmong(kept, clock.now()), 1)
    })

    test('a rotation that breaks off has not happened, and the next one completes it', async (t) => {
      const { one, clock } = await keyed(t, engine)
      const { published } = await loadSigningKeys(one)
      const breaking = { ...one, keys: createSigningKeyStore(breakingOff(one.database)) }
      const lost = published[0]!.kid!
      await assert.rejects(rotateKey('ES256', {}, breaking))
      await assert.rejects(revokeKey(lost, breaking))
      assert.deepEqual(signingKeysAt(await one.keys.list(), clock.now(), vault).published, published)
      const { next } = await rotateKey('ES256', {}, one)
      await assert.rejects(rotateKey('ES256', { atOnce: true }, breaking))
      assert.deepEqual([next.generation, stateOf(next, clock.now())], [2, 'published'])
      assert.deepEqual(
        (await one.keys.list()).filter(({ kid }) => kid === next.kid),
        [next],
      )
    })

    test('a due key rotates automatically: ahead of its time, once, and not while the next one waits', async (t) => {
      const { nodes, one, clock } = await keyed(t, engine)
      const needs = nodes.map((node) => ({ ...node, times: { ...times, rotateEvery: day } }))
      await loadSigningKeys(one)
      const look = async () =>
        (await Promise.all(needs.map(async (node) => rotateWhatIsDue(await node.keys.list(), node)))).flat()
      clock.advance(day - hour - 1)
      assert.deepEqual(await look(), [])
      clock.advance(1)
      const rotated = await look()
      assert.deepEqual(rotated.map(({ algorithm }) => algorithm).sort(), ['ES256', 'RS256'])
      // Each key signs for a day, as configured.
      assert.ok(rotated.every(({ next, former }) => next.signsFrom - former!.signsFrom === day))
      assert.deepEqual(await look(), [])
      clock.advance(day - 1)
      assert.deepEqual(await look(), [])
      clock.advance(1)
      assert.equal((await look()).length, 2)
      assert.deepEqual(await rotateWhatIsDue(await one.keys.list(), one), [], 'without rotateEvery nothing is due')
    })

    test('if tokens are to last longer, the signing key is published longer; retired keys stay as they were', async (t) => {
      const { one, clock } = await keyed(t, engine)
      await loadSigningKeys(one)
      await rotateKey('RS256', { atOnce: true }, one)
      clock.advance(minute)
      const { former } = await rotateKey('ES256', {}, one)
      const ends = async () => (await one.keys.list()).map(({ retirement }) => retirement)
      const before = await ends()
      await one.keys.keepAtLeast(clock.now(), times)
      await one.keys.keepAtLeast(clock.now(), { tokensLast: minute, hintsLast: minute })
      assert.deepEqual(await ends(), before, 'never shorter')
      await one.keys.keepAtLeast(clock.now(), { tokensLast: 2 * day, hintsLast: day })
      const { at, verifiesUntil } = former!.retirement!
      const longer = { at, publishedUntil: at + 2 * day, verifiesUntil }
      assert.deepEqual(await ends(), [undefined, longer, undefined, before[3]])
      await one.keys.keepAtLeast(clock.now(), { tokensLast: 40 * day, hintsLast: day })
      assert.equal((await ends())[1]!.verifiesUntil, at + 40 * day)
    })

    test('keys from before rotation existed go on signing, and rotate', async (t) => {
      const { url, drop } = await engine.fresh()
      const clock = createStageClock()
      const database = await openDatabase(url, { log: createLog('silent'), clock })
      const folder = await mkdtemp(join(tmpdir(), 'doorbell-migrations-'))
      t.after(async () => {
        await database.close()
        await drop()
        await rm(folder, { recursive: true })
      })
      const before = (await readdir(migrations)).filter((name) => name < '0009')
      for (const name of before) await copyFile(join(migrations, name), join(folder, name))
      await migrate(database, clock, folder)
      const key = await makeKey({ algorithm: 'ES256', generation: 1, now: clock.now(), signsFrom: clock.now() }, vault)
      await database.step({
        sql: `insert into signing_keys (kid, algorithm, generation, public_jwk, private_sealed, created_at)
              values ($1, $2, $3, $4, $5, $6) returning kid`,
        values: [key.kid, 'ES256', 1, key.publicJwk, key.privateSealed, key.createdAt],
      })
      await migrate(database, clock)
      const needs = { keys: createSigningKeyStore(database), vault, clock, times }
      assert.deepEqual(await needs.keys.list(), [{ ...key, retirement: undefined, revokedAt: undefined }])
      assert.equal((await rotateKey('ES256', {}, needs)).former!.kid, key.kid)
    })

    test('if no key signs with an algorithm, a start makes one', async (t) => {
      const { one, clock } = await keyed(t, engine)
      await loadSigningKeys(one)
      const end = [clock.now(), clock.now() + hour, clock.now() + day]
      const retire = `update signing_keys set retired_at = $1, published_until = $2, verifies_until = $3
                      where algorithm = 'ES256' returning kid`
      await one.database.step({ sql: retire, values: end })
      const { private: all } = await loadSigningKeys(one)
      assert.deepEqual((await one.keys.list()).map(nameOf), ['ES256 2', 'ES256 1', 'RS256 1'])
      assert.equal(all[0]!.alg, 'ES256')
      assert.equal(all.length, 3)
    })
  })
}

test('times come from the settings: a key stays published for the lifetime of the longest token, and clocks may differ', () => {
  const keys = { publishAhead: 60, rotateEvery: 7200, keepForHints: 86_400 }
  const read = keyTimesOf({ keys, tokens: { idTtl: 3600, accessTtl: 600 } })
  assert.deepEqual(read, { publishAhead: minute, rotateEvery: 2 * hour, tokensLast: hour + 5 * minute, hintsLast: day })
  assert.equal(keyTimesOf({ keys, tokens: { idTtl: 600, accessTtl: 7200 } }).tokensLast, 2 * hour + 5 * minute)
  // A service's own access tokens are verified with our keys, too.
  const resources = { 'https://api.example': { accessTtl: 10_800 }, 'https://other.example': {} }
  assert.equal(
    keyTimesOf({ keys, tokens: { idTtl: 600, accessTtl: 7200 }, resources }).tokensLast,
    3 * hour + 5 * minute,
  )
})

test('a key is overdue when it still signs after its successor should', () => {
  const key = { signsFrom: 0, retirement: undefined, revokedAt: undefined } as KeptKey
  const every = { ...times, rotateEvery: day }
  assert.equal(isOverdue(key, day + 5 * minute, every), false)
  assert.equal(isOverdue(key, day + 5 * minute + 1, every), true)
  assert.equal(isOverdue(key, day + 5 * minute + 1, times), false)
  const retired = { ...key, retirement: { at: day, publishedUntil: 2 * day, verifiesUntil: 3 * day } }
  assert.equal(isOverdue(retired, day + 5 * minute + 1, every), false)
})

const kidsOf = (keys: { kid?: string }[]) => keys.map(({ kid }) => kid)
const nameOf = ({ algorithm, generation }: KeptKey) => `${algorithm} ${generation}`
const signingAmong = (kept: KeptKey[], now: number) => kept.filter((key) => stateOf(key, now) === 'signing').length

async function keyed(t: TestContext, engine: Engine) {
  const { nodes: furnishedNodes, clock } = await furnished(t, engine, { count: 2 })
  const nodes = furnishedNodes.map(({ database }): RotationNeeds & { database: Database } => {
    return { database, keys: createSigningKeyStore(database), vault, clock, times }
  })
  return { nodes, one: nodes[0]!, clock }
}

/** Makes a step fail after its first statements, as if the process had died. */
function breakingOff(database: Database): Database {
  const broken = { sql: 'insert into signing_keys (kid) values (null)', values: [] }
  return {
    ...database,
    listening: true,
    read: database.read,
    step: (first, options = {}) =>
      database.step(first, { ...options, also: (rows) => [...resolveFollowUps(options.also, rows), broken] }),
  }
}
