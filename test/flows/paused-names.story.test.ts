/** A name whose password attempts are paused: attempts at this name do not affect other users, and reveal nothing. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Engine, engines } from '../support/engines.ts'
import { ana, ben, openStage } from '../support/stage.ts'
import { listenToStatements } from '../support/statements.ts'
import { openSignIn } from './held-hashing.ts'

for (const engine of engines) {
  test(`an attempt at a paused name counts nothing, so that others at that address still sign in, on ${engine.name}`, async (t) => {
    const { attempt, statements } = await openPaused(t, engine)
    const office = '192.0.2.7'
    const sql = await statements.during(async () => {
      for (let number = 0; number < 60; number++) assert.equal((await attempt(office, 'ana')).status, 429)
    })
    assert.deepEqual(
      sql.filter((each) => /^(insert|update|delete)/.test(each)),
      [],
    )
    assert.equal((await attempt(office, 'ben', ben.password)).status, 303)
  })

  test(`another name of the user leads to as many statements as an unknown name, on ${engine.name}`, async (t) => {
    const { attempt, statements } = await openPaused(t, engine)
    const seen = async (name: string, address: string) => {
      let answer = ''
      const sql = await statements.during(async () => {
        const { status, headers, text } = await read(attempt(address, name))
        answer = [status, headers.get('retry-after'), text.replaceAll(name, '').length].join(' ')
      })
      return [answer, sql.length]
    }
    assert.deepEqual(await seen(ana.email, '203.0.113.1'), await seen('eva@example.com', '203.0.114.1'))
  })
}

/** Opens a stage on which Ana's username is paused, because of attempts from other networks. */
async function openPaused(t: TestContext, engine: Engine) {
  const statements = listenToStatements()
  const { openDatabase } = statements
  const config = { proxy: { trust: ['127.0.0.1/32', '::1'] }, limits: { signIn: { perName: 3, pause: 600 } } }
  const stage = await openStage(t, { engine, config, parts: { openDatabase } })
  const attempt = await openSignIn(stage)
  for (const number of [1, 2, 3]) assert.equal((await attempt(`10.0.${number}.1`, 'ana')).status, 401)
  return { attempt, statements }
}

async function read(answer: Promise<Response>) {
  const response = await answer
  return { status: response.status, headers: response.headers, text: await response.text() }
}
