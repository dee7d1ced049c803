import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFindByIdentifier } from './find-by-identifier.ts'
import type { SubjectIdentifier, User } from './user.ts'

const ana: User = { id: 'user-ana', email: 'ana@example.com' }
const ben: User = { id: 'user-ben', email: 'ben@example.com' }
const anyAlias = 'nobody'

/** A directory that counts how many of its lookups are under way at the same time. */
function scene() {
  const seen = { all: 0, underWay: 0, most: 0 }
  async function look(named: unknown): Promise<User | null> {
    seen.all += 1
    seen.underWay += 1
    seen.most = Math.max(seen.most, seen.underWay)
    await new Promise(setImmediate)
    seen.underWay -= 1
    if (named === 'fails') throw new Error('the directory is not available')
    return [ana, ben].find(({ id, email }) => named === id || named === email) ?? null
  }
  const find = createFindByIdentifier({
    find: look,
    findByName: look,
    findBySubject: ({ value }) => look(value),
    issuer: 'https://id.example.com',
  })
  const byAliases = (ids: string[]) =>
    find({ format: 'aliases', identifiers: ids.map((id) => ({ format: 'opaque', id })) } as SubjectIdentifier)
  return { seen, byAliases }
}

test('the aliases of a user are looked up one after the other', async () => {
  const { seen, byAliases } = scene()
  assert.equal(await byAliases([anyAlias, ana.id, anyAlias, 'ana@example.com', ana.id]), ana)
  assert.deepEqual(seen, { all: 5, underWay: 0, most: 1 })
})

test('aliases that lead to two users, to none, or to a failure, name no user', async () => {
  const { byAliases } = scene()
  assert.equal(await byAliases([ana.id, ben.id, ana.id]), null)
  assert.equal(await byAliases([anyAlias, anyAlias]), null)
  await assert.rejects(byAliases([ana.id, ben.id, 'fails']), /not available/)
})
