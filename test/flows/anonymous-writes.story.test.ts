/**
 * Calls that can be repeated, most of them without a sign-in. The number of writes that all of them cause is limited.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { authorizationRequest } from '../support/authorization-request.ts'
import { engines } from '../support/engines.ts'
import { ana, openStage } from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { countRows } from '../support/tables.ts'
import { openVisitor } from '../support/visitor.ts'

/** docs/threat-model.md states the same number. */
const mostChallenges = 20

for (const engine of engines) {
  describe(`calls that are repeated, on ${engine.name}`, () => {
    const open = async (t: Parameters<typeof openStage>[0]) => {
      const statements = listenToStatements()
      const stage = await openStage(t, { engine, parts: { workers: false, openDatabase: statements.openDatabase } })
      const visitor = openVisitor(stage.url)
      const page = await visitor.follow(await visitor.get('/'))
      const path = /action="(\/sign-in\/[^"/]+)"/.exec(page.text)![1]!
      return { stage, statements, visitor, path }
    }
    const writes = (statements: string[]) => statements.filter((sql) => !sql.startsWith('select'))

    test('a return without a result reads the sign-in, and nothing else', async (t) => {
      const { stage, statements, visitor, path } = await open(t)
      const before = await countRows(stage)
      const resume = path.replace('/sign-in/', '/oauth/authorize/')
      for (const address of [resume, resume, `${resume}x`, `${resume}?client_id=kiosk`]) {
        // A browser sends the cookie only to the path of the cookie. This visitor sends it to every path.
        const heard = await statements.during(async () => {
          const { status, location } = await visitor.get(address)
          assert.deepEqual([status, location], [303, path])
        })
        assert.deepEqual([heard.length, writes(heard)], [1, []], heard.join('; '))
      }
      assert.equal((await visitor.get(path)).status, 200)
      assert.deepEqual(await countRows(stage), before)
    })

    test('a sign-in gets a limited number of passkey challenges, and a new sign-in gets as many', async (t) => {
      const { stage, statements, visitor, path } = await open(t)
      const ask = () => visitor.post(`${path}/passkey/options`, {}, { accept: 'application/json' })
      const first = await Promise.all(Array.from({ length: mostChallenges + 10 }, ask))
      assert.equal(first.filter(({ status }) => status === 200).length, mostChallenges)
      assert.equal(first.filter(({ status }) => status === 429).length, 10)
      const heard = await statements.during(async () => {
        const { status, headers, text } = await ask()
        assert.deepEqual([status, headers.get('retry-after')], [429, '600'])
        assert.equal(JSON.parse(text).error, 'access_denied')
      })
      assert.deepEqual([heard.length, writes(heard)], [1, []], heard.join('; '))
      const another = openVisitor(stage.url)
      const page = await another.follow(await another.get('/'))
      const other = /action="(\/sign-in\/[^"/]+)"/.exec(page.text)![1]!
      assert.equal((await another.post(`${other}/passkey/options`, {})).status, 200)
      assert.equal((await another.post(`${path}/passkey/options`, {})).status, 410)
    })

    test('cancelling again stores nothing', async (t) => {
      const { statements, visitor, path } = await open(t)
      const cancel = () => visitor.post(path, { cancel: 'yes' })
      const { status, location } = await cancel()
      assert.equal(status, 303)
      const heard = await statements.during(async () => assert.equal((await cancel()).location, location))
      assert.deepEqual(writes(heard), [])
      assert.match((await visitor.get(location!)).location!, /error=access_denied/)
    })

    test('a user who consents again, before the redirect is followed, stores no further grant', async (t) => {
      const { stage, statements } = await open(t)
      const visitor = openVisitor(stage.url)
      const query = new URLSearchParams(authorizationRequest)
      const page = await visitor.signIn(ana, `/oauth/authorize?${query}`)
      const path = /action="(\/sign-in\/[^"/]+)"/.exec(page.text)![1]!
      const { status, location } = await visitor.post(path, {})
      assert.equal(status, 303)
      const heard = await statements.during(async () => assert.equal((await visitor.post(path, {})).location, location))
      assert.deepEqual(writes(heard), [])
      assert.match((await visitor.get(location!)).location!, /callback\?code=/)
    })

    test('a sign-out without any cookie stores nothing', async (t) => {
      const { stage, statements } = await open(t)
      const heard = await statements.during(async () => {
        assert.equal((await openVisitor(stage.url).post('/session/end', {})).status, 303)
      })
      assert.deepEqual(heard, [])
    })
  })
}
