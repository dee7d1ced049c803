/** What is written about the settings is what is declared about them. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { configurationPage } from '../scripts/configuration-page.ts'
import { editorHelp } from '../scripts/editor-help.ts'
import { environmentName } from '../src/config/environment.ts'
import { type Declaration, declarations, settingKinds, settingsIn } from '../src/config/schema.ts'

const page = readFileSync('docs/configuration.md', 'utf8')

test('the tables of docs/configuration.md are made from the declarations: npm run docs:configuration', () => {
  assert.equal(page, configurationPage(page))
})

test('what an editor says of the settings is made from the declarations: npm run docs:configuration', () => {
  assert.equal(readFileSync('src/config/editor-help.ts', 'utf8'), editorHelp())
})

test('a section that the page does not show is found, and one that does not exist', () => {
  const without = (name: string) => page.replace(` ${name} -->`, ' -->')
  assert.throws(() => configurationPage(without('deviceWebhook')), /not shown exactly once: deviceWebhook/)
  assert.throws(() => configurationPage(page.replace(' deviceWebhook -->', ' deviceBell -->')), /deviceBell is not/)
})

test('every setting says what it is for and what its value may be', () => {
  const silent = settingsIn(declarations).filter(({ info }) => !info.description || !info.values)
  assert.deepEqual(silent, [])
})

test('what a description points to exists', () => {
  const variables = new Set([...settingKinds.keys()].map(environmentName))
  const everything = (declared: readonly Declaration[]): Declaration[] =>
    declared.flatMap((each) => [each, ...everything(each.settings)])
  for (const { path, info } of everything(declarations)) {
    const { description = '' } = info
    for (const [, target] of description.matchAll(/\]\(([^)]+)\)/g)) assert.ok(existsSync(`docs/${target}`), path)
    for (const [name] of description.matchAll(/DOORBELL_\w+/g)) assert.ok(variables.has(name), `${path}: ${name}`)
  }
})
