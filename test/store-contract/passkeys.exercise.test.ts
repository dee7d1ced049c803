/** The guarantees of the stores of passkeys, on both engines. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { fingerprint } from '../../src/platform/crypto.ts'
import { createPasskeys } from '../../src/user/passkey/passkey.ts'
import { createPasskeyChallengeStore } from '../../src/user/passkey/passkey-challenge-store.ts'
import { createPasskeyStore, mostPasskeys, type Passkey } from '../../src/user/passkey/passkey-store.ts'
import { createAuthenticator } from '../support/authenticator.ts'
import { type Engine, engines } from '../support/engines.ts'
import { allRows, furnished } from '../support/rows.ts'

for (const engine of engines) {
  describe(`passkeys, on ${engine.name}`, () => {
    test('a passkey is found as it was added, by its user and by its credential', async (t) => {
      const { store, clock } = await stores(t, engine)
      const one = passkey({ createdAt: clock.now() })
      const two = passkey({ id: 'p2', credentialId: 'c2', name: undefined, transports: [], createdAt: clock.now() + 1 })
      assert.deepEqual([await store.add(two), await store.add(one)], [true, true])
      assert.deepEqual(await store.listForUser('user-ana'), [one, two])
      assert.deepEqual(await store.findByCredential('c1'), one)
      assert.deepEqual([await store.findByCredential('c3'), await store.listForUser('user-ben')], [undefined, []])
    })

    test('a credential belongs to one user, also of forty additions at once', async (t) => {
      const { store } = await stores(t, engine)
      const adding = Array.from({ length: 40 }, (_, n) => store.add(passkey({ id: `p${n}`, userId: `u${n}` })))
      const added = await Promise.all(adding)
      assert.equal(added.filter(Boolean).length, 1)
      assert.equal((await store.findByCredential('c1'))!.userId, `u${added.indexOf(true)}`)
    })

    test('a user may have fifty, also of a hundred additions at once; other users are not affected', async (t) => {
      const { store } = await stores(t, engine)
      const adding = Array.from({ length: 2 * mostPasskeys }, (_, n) =>
        store.add(passkey({ id: `p${n}`, credentialId: `c${n}` })),
      )
      assert.equal((await Promise.all(adding)).filter(Boolean).length, 50)
      assert.equal((await store.listForUser('user-ana')).length, 50)
      assert.equal(await store.add(passkey({ id: 'q', credentialId: 'q', userId: 'user-ben' })), true)
      const [one] = await store.listForUser('user-ana')
      await store.remove(one!.id, 'user-ana')
      assert.equal(await store.add(passkey({ id: 'r', credentialId: 'r' })), true)
    })

    test('a counter only grows; of forty uses with the same value, one is accepted', async (t) => {
      const { store } = await stores(t, engine)
      await store.add(passkey({ counter: 5 }))
      assert.deepEqual([await store.markUsed('p1', 5, 1000), await store.markUsed('p1', 4, 1000)], [false, false])
      const uses = await Promise.all(Array.from({ length: 40 }, () => store.markUsed('p1', 6, 2000)))
      assert.equal(uses.filter(Boolean).length, 1)
      const { counter, usedAt } = (await store.findByCredential('c1'))!
      assert.deepEqual([counter, usedAt], [6, 2000])
      assert.equal(await store.markUsed('p1', 0, 3000), false, 'it had a counter')
      assert.equal(await store.markUsed('p9', 9, 3000), false)
    })

    test('an authenticator without a counter can be used repeatedly', async (t) => {
      const { store } = await stores(t, engine)
      await store.add(passkey({ counter: 0 }))
      assert.deepEqual([await store.markUsed('p1', 0, 1), await store.markUsed('p1', 0, 2)], [true, true])
    })

    test('only its user can rename it; of forty renamings and a removal, none brings it back', async (t) => {
      const { store } = await stores(t, engine)
      await store.add(passkey())
      assert.equal(await store.rename('p1', 'user-ben', 'Mine'), false)
      assert.equal(await store.rename('p1', 'user-ana', 'Büro'), true)
      assert.equal((await store.findByCredential('c1'))!.name, 'Büro')
      await Promise.all([
        ...Array.from({ length: 40 }, (_, n) => store.rename('p1', 'user-ana', `name ${n}`)),
        store.remove('p1', 'user-ana'),
      ])
      assert.equal(await store.findByCredential('c1'), undefined)
      assert.equal(await store.rename('p1', 'user-ana', 'gone'), false)
    })

    test('only its user can remove it', async (t) => {
      const { store } = await stores(t, engine)
      await store.add(passkey())
      assert.equal(await store.remove('p1', 'user-ben'), false)
      assert.equal(await store.remove('p1', 'user-ana'), true)
      assert.equal(await store.remove('p1', 'user-ana'), false)
    })

    test('a challenge is accepted once, for its purpose, in time, and is not stored in clear text', async (t) => {
      const { challenges, database } = await stores(t, engine)
      await challenges.keep('a challenge', 'register:u1', 1000)
      assert.ok(!JSON.stringify(await allRows(database, 'passkey_challenges')).includes('a challenge'))
      assert.equal(await challenges.take('a challenge', 'register:u2', 999), false)
      assert.equal(await challenges.take('a challenge', 'register:u1', 1000), false, 'too late')
      assert.equal(await challenges.take('another', 'register:u1', 999), false)
      const takes = await Promise.all(
        Array.from({ length: 40 }, () => challenges.take('a challenge', 'register:u1', 999)),
      )
      assert.equal(takes.filter(Boolean).length, 1)
    })

    test('expired challenges are deleted', async (t) => {
      const { challenges, database } = await stores(t, engine)
      await challenges.keep('old', 'sign-in:1', 1000)
      await challenges.keep('new', 'sign-in:2', 1001)
      await challenges.forgetExpired(1000, 9)
      assert.deepEqual(
        (await allRows(database, 'passkey_challenges')).map((row) => row.purpose),
        ['sign-in:2'],
      )
    })

    test('of forty answers to one challenge at once, one is accepted', async (t) => {
      const { store, challenges, clock } = await stores(t, engine)
      const origin = 'https://id.example.com'
      const passkeys = createPasskeys({ store, challenges, issuer: `${origin}/ciba`, clock })
      const authenticator = createAuthenticator(origin, { counts: false })
      const ana = { id: 'user-ana', username: 'ana' }
      const made = authenticator.create(await passkeys.registrationOptions(ana, []))
      assert.ok(await passkeys.register(ana, made, { notices: [] }))
      const options = (await passkeys.confirmOptions('user-ana', 'r1'))!
      const response = authenticator.get({ challenge: options.challenge, rpId: options.rpId! })
      const answers = await Promise.all(Array.from({ length: 40 }, () => passkeys.confirm('user-ana', 'r1', response)))
      assert.equal(answers.filter(Boolean).length, 1)
    })

    test('the user handle of a user is lasting, and another one at an issuer with another path on the same host', async (t) => {
      const { store, challenges, clock } = await stores(t, engine)
      const handleAt = async (path: string, id = 'user-ana') => {
        const passkeys = createPasskeys({ store, challenges, issuer: `https://id.example.com${path}`, clock })
        return (await passkeys.registrationOptions({ id }, [])).user.id
      }
      assert.equal(await handleAt(''), fingerprint('passkeys of user-ana'), 'passkeys of earlier versions are valid')
      const handles = [
        await handleAt(''),
        await handleAt('/bank'),
        await handleAt('/shop'),
        await handleAt('/bank', 'ben'),
      ]
      assert.equal(new Set(handles).size, 4)
      assert.equal(await handleAt('/bank'), handles[1])
    })
  })
}

async function stores(t: TestContext, engine: Engine) {
  const { clock, one } = await furnished(t, engine)
  const { database } = one
  return { clock, database, store: createPasskeyStore(database), challenges: createPasskeyChallengeStore(database) }
}

function passkey(more: Partial<Passkey> = {}): Passkey {
  return {
    id: 'p1',
    userId: 'user-ana',
    credentialId: 'c1',
    publicKey: 'a2V5',
    counter: 0,
    transports: ['internal'],
    name: 'My phone',
    createdAt: 1000,
    usedAt: undefined,
    ...more,
  }
}
