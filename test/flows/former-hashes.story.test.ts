/**
 * Hashes of passwords and user codes that were made without a key, or at a lower cost. They are still accepted, and are
 * replaced at the next use.
 */
import assert from 'node:assert/strict'
import { randomBytes, scryptSync } from 'node:crypto'
import { describe, test } from 'node:test'
import { createVault, newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { createPasswordHashing, passwordOf, userCodeOf } from '../../src/user/password/password-hashing.ts'
import { scryptHere, scryptOptions } from '../../src/user/password/scrypt.ts'
import { createUserCodeStore } from '../../src/user/user-code/user-code-store.ts'
import { createUserStore } from '../../src/user/user-store.ts'
import { engines } from '../support/engines.ts'
import { basic, cheapCost, openStage } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { boothSecret, code, config, openSignIn } from './held-hashing.ts'

/** Derived from the secret of the test servers. */
const vault = createVault(Buffer.alloc(32, 7).toString('base64url'))

/** Returns a hash without a key, as an earlier version made it. */
async function keylessHash(password: string): Promise<string> {
  const salt = randomBytes(16)
  const hash = scryptSync(password, salt, 32, scryptOptions({ N: 2 ** 15, r: 8, p: 1 }))
  return `scrypt.${salt.toString('base64url')}.${hash.toString('base64url')}`
}

/** Returns a hash at a quarter of the present cost, as an earlier version made it. */
function cheaperHash(password: string, of: string): Promise<string> {
  const cost = { ...cheapCost, N: cheapCost.N / 4 }
  return createPasswordHashing({ vault, scrypt: scryptHere, cost }).hash(password, of)
}

const formerHashes = [
  { what: 'without a key', formerHash: keylessHash, looks: /^scrypt\./ },
  { what: 'at a lower cost', formerHash: cheaperHash, looks: /^\$scrypt\$ln=8,r=8,p=1,keyid=/ },
]

for (const engine of engines) {
  describe(`a former hash, on ${engine.name}`, () => {
    for (const { what, formerHash, looks } of formerHashes) {
      test(`${what} is accepted at one sign-in and replaced by a present one; the same for a user code`, async (t) => {
        const stage = await openStage(t, { engine, config })
        const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
        t.after(() => database.close())
        const password = newSecret(12)
        const dora = { id: 'dora', username: 'dora', passwordHash: await formerHash(password, passwordOf('dora')) }
        await createUserStore(database).add(dora, stage.clock.now())
        await createUserCodeStore(database).put('dora', await formerHash(code, userCodeOf('dora')), stage.clock.now())
        const hashes = async () => {
          const [user] = await rowsOf(stage, "select password_hash from users where id = 'dora'")
          const [kept] = await rowsOf(stage, "select hash from user_codes where user_id = 'dora'")
          return [String(user!.password_hash), String(kept!.hash)]
        }
        const before = await hashes()
        for (const hash of before) assert.match(hash, looks)
        const attempt = await openSignIn(stage)
        const ask = (user_code: string) =>
          stage.post(
            '/backchannel/authorize',
            { scope: 'openid', login_hint: 'dora', user_code },
            basic('booth', boothSecret),
          )
        assert.equal((await attempt('192.0.2.1', 'dora')).status, 401)
        assert.equal((await ask('4712')).body.error, 'invalid_user_code')
        assert.deepEqual(await hashes(), before, 'wrong passwords and codes change nothing')

        assert.equal((await attempt('192.0.2.1', 'dora', password)).status, 303)
        assert.equal((await ask(code)).status, 200)
        const after = await hashes()
        for (const hash of after) assert.match(hash, /^\$scrypt\$ln=10,r=8,p=1,keyid=/)
        assert.equal((await (await openSignIn(stage))('192.0.2.1', 'dora', password)).status, 303)
        assert.equal((await ask(code)).status, 200)
        assert.deepEqual(await hashes(), after, 'once')
      })
    }

    test('does not replace a password or code that was changed meanwhile', async (t) => {
      const stage = await openStage(t, { engine, config })
      const database = await openDatabase(stage.database, { log: createLog('silent'), clock: stage.clock })
      t.after(() => database.close())
      const [users, codes] = [createUserStore(database), createUserCodeStore(database)]
      await users.add({ id: 'dora', username: 'dora', passwordHash: 'new' }, stage.clock.now())
      await codes.put('dora', 'new', stage.clock.now())
      await users.replacePasswordHash('dora', 'old', 'stronger')
      await codes.replaceHash('dora', 'old', 'stronger')
      assert.equal((await users.find('dora'))?.passwordHash, 'new')
      assert.equal((await codes.find('dora'))?.hash, 'new')
    })
  })
}
