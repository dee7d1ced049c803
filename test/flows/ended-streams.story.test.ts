/** The event stream of a page ends when the session of the page ends, even if the user has other pages open. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { byCommand, dora } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { ana, openStage, type Stage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { until } from '../support/until.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'

for (const engine of engines) {
  test(`a page of an ended session gets no events, and no stream can be opened with its cookie, on ${engine.name}`, async (t) => {
    const stage = await openStage(t, { engine })
    const [home, office] = [openVisitor(stage.url), openVisitor(stage.url)]
    await home.signIn(ana)
    stage.clock.advance(1000)
    await office.signIn(ana)
    const homePage = await openStream(t, stage, cookieOf(home))
    const copy = cookieOf(office)
    const officePage = await openStream(t, stage, copy)
    await office.post('/session/end', { form_token: formTokenOn(await office.get('/')) })
    await until(() => !officePage.isOpen)

    const late = await openStream(t, stage, copy)
    await until(() => !late.isOpen)
    await stage.ring('kiosk')
    await until(() => homePage.changes > 0)
    assert.deepEqual([homePage.isOpen, officePage.changes, late.changes], [true, 0, 0])
  })

  for (const ending of ['locked', 'removed', 'signed_out'] as const) {
    test(`all pages end when their user is ${ending} by a command, on ${engine.name}`, async (t) => {
      const stage = await openStage(t, { engine })
      await byCommand(stage, ({ addDora }) => addDora())
      const visitor = openVisitor(stage.url)
      await visitor.signIn(dora)
      const pages = [await openStream(t, stage, cookieOf(visitor)), await openStream(t, stage, cookieOf(visitor))]
      await byCommand(stage, ({ endUser }) => endUser(dora.id, ending, { mustBe: 'added', by: 'command' }))
      stage.clock.advance(2_000)
      await until(() => pages.every(({ isOpen }) => !isOpen))
    })
  }
}

const cookieOf = ({ jar }: Visitor) => [...jar].map(([name, value]) => `${name}=${value}`).join('; ')

async function openStream(t: TestContext, stage: Stage, cookie: string) {
  const stop = new AbortController()
  closeAfter(t, () => stop.abort())
  const { status, body } = await fetch(`${stage.url}/events`, { headers: { cookie }, signal: stop.signal })
  assert.equal(status, 200)
  const page = { changes: 0, isOpen: true }
  void (async () => {
    const decoder = new TextDecoder()
    for await (const bytes of body!) page.changes += decoder.decode(bytes).split('event: changed').length - 1
    page.isOpen = false
  })().catch(() => {})
  return page
}
