/** Ana names her passkeys, when she adds them and later, so that she recognises each device in the list. */
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { exportUser } from '../../src/endings/export-user.ts'
import { type CreationOptions, createAuthenticator } from '../support/authenticator.ts'
import { byCommand } from '../support/commands.ts'
import { engines } from '../support/engines.ts'
import { signIn } from '../support/phone-app.ts'
import { ana, ben, openStage, type Stage } from '../support/stage.ts'
import { formTokenOn, openVisitor, type Visitor } from '../support/visitor.ts'
import { added, listed, passkeys, signedIn, signedInWith } from './passkeys.ts'

const firefox = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0' }
const rule = 'name must be 1 to 100 visible characters'

/** Names that a user could not see completely, or that are longer than a name may be. */
const notShown = ['   ', 'a\u0007b', 'a\nb', 'a\u200bb', 'a\u202eb', 'a\u2066b', 'a\ufeffb', '\u3164', '\u2800']
const tooLong = 'x'.repeat(101)

for (const engine of engines) {
  describe(`names of passkeys, on ${engine.name}`, () => {
    test('Ana renames one; the list, her export and the audit show it', async (t) => {
      const { stage, bearer } = await signedIn(t, { engine })
      const authenticator = await added(stage, bearer)
      const strong = await signedInWith(stage, authenticator)
      const [{ id }] = (await listed(stage, strong)) as [{ id: string }]
      const renamed = await stage.post(`${passkeys}/rename`, { id, name: '  Büro 🔑 ' }, strong)
      assert.deepEqual([renamed.status, renamed.body], [200, { id, name: 'Büro 🔑' }])
      assert.deepEqual(await namesOf(stage, strong), ['Büro 🔑'])
      const exported = await byCommand(stage, ({ database }) => exportUser(ana.id, undefined, { database }))
      assert.match(JSON.stringify(exported), /"name":"Büro 🔑"/)
      const audited = stage.logLines.map((line) => JSON.parse(line)).find(({ event }) => event === 'passkey.renamed')
      assert.deepEqual([audited.user, audited.about], [ana.id, id])
      assert.ok(!JSON.stringify(audited).includes('Büro'))
    })

    test("not a passkey of Ben, not without a recent sign-in, and not after Ana's session has ended", async (t) => {
      const { stage, bearer } = await signedIn(t, { engine })
      const authenticator = await added(stage, bearer)
      const strong = await signedInWith(stage, authenticator)
      const [{ id }] = (await listed(stage, strong)) as [{ id: string }]
      const rename = async (authorization?: string) =>
        (await stage.post(`${passkeys}/rename`, { id, name: 'Mine' }, authorization)).status
      assert.equal(await rename(`Bearer ${(await signIn(stage, ben)).access_token}`), 404)
      assert.equal(await rename(), 401)
      assert.equal(await rename(bearer), 401, 'a password is not enough if she has a passkey')
      stage.clock.advance(5 * 60_000 + 5_000)
      assert.equal(await rename(strong), 401, 'too late')
      await stage.doorbell.users.signOut(ana.id)
      assert.equal(await rename(strong), 401)
    })
  })
}

test('a name that could not be seen is refused, before the authenticator makes a passkey', async (t) => {
  const { stage, bearer } = await signedIn(t)
  const passkey = await created(stage, bearer)
  for (const name of [...notShown, tooLong]) {
    for (const [path, fields] of [
      ['/options', { name }],
      ['/rename', { id: 'x', name }],
    ] as const) {
      const { status, body } = await stage.post(passkeys + path, fields, bearer)
      assert.deepEqual([status, body.error_description, body.bad_name], [400, rule, true], JSON.stringify([path, name]))
    }
  }
  assert.equal((await stage.post(passkeys, { passkey, name: 'a\u200bb' }, bearer)).status, 400)
  assert.equal((await stage.post(`${passkeys}/rename`, { id: 'x' }, bearer)).body.error_description, 'name is missing')
  assert.deepEqual(await namesOf(stage, bearer), [])
})

describe('on the page', () => {
  test('a name is proposed: the browser and the system. It is stored if she leaves it, or empties the field', async (t) => {
    const { stage, visitor, page } = await atPage(t)
    assert.equal(proposedOn(page.text), 'Firefox · Linux')
    const authenticator = await addInApp(stage, visitor, page.text, {})
    assert.deepEqual(await namesOf(stage, await signedInWith(stage, authenticator)), ['Firefox · Linux'])
  })

  test('the name that she typed is stored, and shown as text', async (t) => {
    const { stage, visitor, page } = await atPage(t)
    const authenticator = await addInApp(stage, visitor, page.text, { name: '<b>Phone</b>' })
    const strong = await signedInWith(stage, authenticator)
    assert.deepEqual(await namesOf(stage, strong), ['<b>Phone</b>'])
    assert.match((await visitor.get('/passkeys')).text, /<h2>&lt;b&gt;Phone&lt;\/b&gt;<\/h2>/)
  })

  test('a browser that is not known proposes the word "Passkey"', async (t) => {
    const { page } = await atPage(t, {})
    assert.equal(proposedOn(page.text), 'Passkey')
  })
})

async function atPage(t: TestContext, headers: Record<string, string> = firefox) {
  const stage = await openStage(t)
  const visitor = openVisitor(stage.url, stage.url, { 'user-agent': 'unknown', ...headers })
  return { stage, visitor, page: await visitor.signIn(ana, '/passkeys') }
}

/** Returns the name in the form with which a passkey is added. */
const proposedOn = (text: string) => /action="\/passkeys" [\s\S]*?<input name="name" value="([^"]*)"/.exec(text)?.[1]

async function addInApp(stage: Stage, visitor: Visitor, text: string, fields: Record<string, string>) {
  const token = { form_token: formTokenOn({ text } as never) }
  const authenticator = createAuthenticator(stage.url)
  const options = JSON.parse((await visitor.post('/passkeys/options', { ...token, ...fields })).text) as CreationOptions
  const passkey = authenticator.create(options)
  const { location } = await visitor.post('/passkeys', { ...token, ...fields, passkey })
  assert.equal(location, '/passkeys?done=added')
  return authenticator
}

async function created(stage: Stage, bearer: string): Promise<string> {
  const { body } = await stage.post(`${passkeys}/options`, {}, bearer)
  return createAuthenticator(stage.url).create(body as unknown as CreationOptions)
}

async function namesOf(stage: Stage, authorization: string): Promise<(string | undefined)[]> {
  return ((await listed(stage, authorization)) as { name?: string }[]).map(({ name }) => name)
}
