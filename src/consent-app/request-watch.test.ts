/** How many reads are needed to keep pages up to date. Reads are counted, never timed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createGate } from '../../test/support/gate.ts'
import { until } from '../../test/support/until.ts'
import { createLog } from '../platform/log.ts'
import { createRequestWatch } from './request-watch.ts'

test('a change for one of a hundred users costs one read; one for a user without an open page costs none', async () => {
  const { watch, open, change, looks } = scene()
  const pages = Array.from({ length: 100 }, (_, number) => open(`user ${number}`))
  await until(() => looks.length === 100)
  change('user 7', 'new')
  await until(() => pages[7]!.changes === 1)
  change('user without a page', 'new')
  change('user 8', 'new')
  await until(() => pages[8]!.changes === 1)
  assert.deepEqual(looks.slice(100), ['token of user 7', 'token of user 8'])
  assert.equal(pages.filter(({ changes }) => changes > 0).length, 2)
  watch.close()
})

test('ten users with a hundred pages each: a change costs one read, and all hundred pages are notified', async () => {
  const { open, change, looks } = scene()
  const pages = Array.from({ length: 1000 }, (_, number) => open(`user ${number % 10}`))
  await until(() => looks.length === 10)
  change('user 3', 'new')
  await until(() => pages[3]!.changes === 1)
  assert.equal(looks.length, 11)
  assert.equal(pages.filter(({ changes }) => changes === 1).length, 100)
})

for (const users of [1, 10, 100, 1_000, 10_000]) {
  const each = 10_000 / users
  test(`ten thousand pages, ${each} of each user: opening costs a read for each user, a change one read`, async () => {
    const { open, change, looks } = scene()
    const pages = Array.from({ length: 10_000 }, (_, number) => open(`user ${number % users}`))
    await until(() => looks.length === users)
    change('user 0', 'new')
    const reached = () => pages.filter(({ changes }) => changes === 1).length
    await until(() => reached() === each)
    assert.equal(looks.length, users + 1)
  })
}

test('changes during a read share the next read', async () => {
  const { open, change, looks, gate } = scene()
  const page = open('ana')
  await until(() => looks.length === 1)
  gate.hold()
  change('ana', 'one')
  await gate.waiting(1)
  for (const id of ['two', 'three', 'four']) change('ana', id)
  gate.release()
  await until(() => page.changes === 2)
  assert.equal(looks.length, 3)
})

test('after a gap in the announcements the requests of every user are read once, eight users at a time', async () => {
  const { open, change, looks, gate } = scene()
  const pages = Array.from({ length: 300 }, (_, number) => open(`user ${number % 100}`))
  await until(() => looks.length === 100)
  gate.hold()
  change('', 'missed')
  change('', 'missed again')
  await gate.waiting(8)
  assert.equal(looks.length, 108)
  gate.release()
  await until(() => pages.every(({ changes }) => changes > 0) && looks.length === 208)
  // The eight users whose read was in progress at the second gap have been read again.
  change('user 1', 'new')
  await until(() => pages[101]!.changes === 3)
  assert.equal(looks.length, 209)
})

test('a page whose token is no longer valid is closed, and the token of the next page is used', async () => {
  const { open, change, looks, revoke } = scene()
  const [one, other] = [open('ana', 'token 1'), open('ana', 'token 2')]
  await until(() => looks.length === 2)
  revoke('token 1')
  change('ana', 'new')
  await until(() => other.changes === 1)
  assert.deepEqual([one.ended, one.changes, other.ended], [true, 0, false])
  assert.deepEqual(looks.slice(2), ['token 1', 'token 2'])
  change('ana', 'newer')
  await until(() => other.changes === 2)
  assert.deepEqual(looks.slice(4), ['token 2'])
})

test('when a session has ended, each token is checked once, and the pages of the ended session are closed', async () => {
  const { open, change, looks, revoke, end } = scene()
  const [home, office, sameOffice] = [open('ana', 'home'), open('ana', 'office'), open('ana', 'office')]
  await until(() => looks.length === 2)
  revoke('office')
  end('ana')
  await until(() => office.ended && sameOffice.ended)
  assert.deepEqual([home.ended, looks.slice(2)], [false, ['home', 'office']])
  change('ana', 'new')
  await until(() => home.changes === 1)
  assert.deepEqual([office.changes, sameOffice.changes, looks.slice(4)], [0, 0, ['home']])
  const ben = open('ben')
  await until(() => looks.length === 6)
  revoke('token of ben')
  end('')
  await until(() => ben.ended)
  assert.equal(home.ended, false)
})

test('a page that opens with the token of an ended session is closed, although another page is open', async () => {
  const { open, change, looks, revoke } = scene()
  const home = open('ana', 'home')
  await until(() => looks.length === 1)
  revoke('office')
  const office = open('ana', 'office')
  await until(() => office.ended)
  change('ana', 'new')
  await until(() => home.changes > 0)
  assert.deepEqual([home.ended, office.changes], [false, 0])
})

test('a read that fails closes only the pages of that user: they reconnect', async () => {
  const { open, change, looks, fail } = scene()
  const [anas, bens] = [open('ana'), open('ben')]
  await until(() => looks.length === 2)
  fail('token of ana')
  change('ana', 'new')
  await until(() => anas.ended)
  change('ben', 'new')
  await until(() => bens.changes === 1)
  assert.equal(bens.ended, false)
})

test('a user without an open page is forgotten, and read again when a page is opened', async () => {
  const { open, change, looks } = scene()
  const page = open('ana')
  await until(() => looks.length === 1)
  page.stop()
  change('ana', 'new')
  const again = open('ana')
  await until(() => looks.length === 2)
  change('ana', 'newer')
  await until(() => again.changes === 1)
  assert.deepEqual([looks.length, page.changes], [3, 0])
})

function scene() {
  const looks: string[] = []
  const gate = createGate()
  const waiting = new Map<string, string[]>()
  const refused = new Map<string, 'revoked' | 'fails'>()
  const users = new Map<string, string>()
  let listener: (userKey: string) => void = () => {}
  let sessionsEnded: (userKey: string) => void = () => {}
  const watch = createRequestWatch({
    onChange(added) {
      listener = added
      return () => {
        listener = () => {}
      }
    },
    onSessionsEnded(added) {
      sessionsEnded = added
      return () => {}
    },
    async waiting(token) {
      looks.push(token)
      const ids = waiting.get(users.get(token)!) ?? []
      await gate.pass()
      if (refused.get(token) === 'fails') throw new Error('no database')
      const requests = ids.map((request_id) => ({ request_id }) as never)
      return { status: refused.get(token) === 'revoked' ? 401 : 200, body: { requests } }
    },
    log: createLog('silent'),
  })

  return {
    watch,
    looks,
    gate,
    open(user: string, accessToken = `token of ${user}`) {
      users.set(accessToken, user)
      const page = { changes: 0, ended: false, stop: () => {} }
      page.stop = watch.add(user, {
        accessToken,
        changed: () => void page.changes++,
        end() {
          page.ended = true
          page.stop()
        },
      })
      return page
    },
    /** Changes the requests of a user, or of all users if `user` is ''. */
    change(user: string, id: string) {
      const changed = user === '' ? new Set(users.values()) : [user]
      for (const each of changed) waiting.set(each, [...(waiting.get(each) ?? []), id])
      listener(user)
    },
    /** Announces that a session of the user has ended; for all users if `user` is ''. */
    end: (user: string) => sessionsEnded(user),
    revoke: (token: string) => void refused.set(token, 'revoked'),
    fail: (token: string) => void refused.set(token, 'fails'),
  }
}
