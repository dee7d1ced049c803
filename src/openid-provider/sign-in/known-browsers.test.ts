import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../../platform/clock.ts'
import { createVault } from '../../platform/crypto.ts'
import { createKnownBrowsers } from './known-browsers.ts'

const vault = createVault(Buffer.alloc(32, 1).toString('base64url'))
const cookieOf = (setCookie: string) => setCookie.split(';')[0]!

test('a browser is known for a user until all sessions of the user end', async () => {
  const generations = new Map([['ana', 1]])
  const browsers = createKnownBrowsers({
    issuer: 'https://id.example.com',
    generationOf: async (userId) => generations.get(userId) ?? 0,
    vault,
    clock: systemClock,
  })
  const cookies = cookieOf(await browsers.remember('ben', cookieOf(await browsers.remember('ana', undefined))))
  const known = (userId: string) => browsers.browserIdFor(userId, browsers.signInsOf(cookies))
  assert.ok(await known('ana'))
  assert.ok(await known('ben'))
  assert.notEqual(await known('ana'), await known('ben'))
  assert.equal(await known('zoe'), undefined)
  generations.set('ana', 2)
  assert.equal(await known('ana'), undefined)
  assert.ok(await known('ben'))
})

test('a browser is known for 180 days after the sign-in, by the clock of the server', async () => {
  let now = 1_000_000
  const browsers = createKnownBrowsers({
    issuer: 'https://id.example.com',
    vault,
    clock: { ...systemClock, now: () => now },
  })
  const cookies = cookieOf(await browsers.remember('ana', undefined))
  now += 180 * 24 * 3600_000 - 1
  assert.equal(browsers.signInsOf(cookies).length, 1)
  now += 1
  assert.equal(browsers.signInsOf(cookies).length, 0)
})

test('each sign-in gives the browser a new id, so that a copy of the former cookie is counted separately', async () => {
  const browsers = createKnownBrowsers({ issuer: 'https://id.example.com', vault, clock: systemClock })
  const before = cookieOf(await browsers.remember('ana', undefined))
  const after = cookieOf(await browsers.remember('ana', before))
  const ids = [before, after].map((cookies) => browsers.signInsOf(cookies).map(({ browserId }) => browserId))
  assert.equal(ids[0]!.length, 1)
  assert.equal(ids[1]!.length, 1)
  assert.notDeepEqual(ids[0], ids[1])
})

test('over https the cookie has the prefix __Host- and stays below 4096 bytes for any number of users', async () => {
  const browsers = createKnownBrowsers({ issuer: 'https://id.example.com', vault, clock: systemClock })
  let set = ''
  for (let number = 0; number < 300; number++) {
    set = await browsers.remember(String(number).padEnd(255, '\\'), set === '' ? undefined : cookieOf(set))
    assert.ok(set.length < 4096)
  }
  assert.match(set, /^__Host-doorbell_browser=v1\..*; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
  const remembered = browsers.signInsOf(cookieOf(set)).map(({ userId }) => Number.parseInt(userId, 10))
  assert.deepEqual(remembered.slice(0, 3), [299, 298, 297])
  assert.ok(remembered.length <= 5)
})
