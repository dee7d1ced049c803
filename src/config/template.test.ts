import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parseEnv } from 'node:util'
import type { Config } from './config.ts'
import { loadConfig } from './load.ts'
import { settingKinds } from './schema.ts'
import { configTemplate, environmentTemplate } from './template.ts'

function folderWith(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'doorbell-template-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'texts'))
  writeFileSync(join(folder, 'doorbell.config.ts'), text)
  return folder
}

/** Uncomments every optional setting. */
function uncommented(text: string): string {
  return text.replace(/^(\s*)\/\/(?! )/gm, '$1')
}

test('the template loads unchanged, with the secret of the .env text', async (t) => {
  const cwd = folderWith(t, configTemplate({ port: 4100, database: "sqlite:./it's.db" }))
  const env = parseEnv(environmentTemplate())
  const config = await loadConfig({ cwd, env })
  assert.equal(config.issuer, 'http://localhost:4100')
  assert.equal(config.database, `sqlite:${join(cwd, "it's.db")}`)
  assert.equal(config.secret, env.DOORBELL_SECRET)
  assert.deepEqual(config.clients, [])
})

test('the template shows the defaults: with all lines uncommented only the examples differ', async (t) => {
  const plain = await loadConfig({ cwd: folderWith(t, configTemplate()), env: {} })
  const full = await loadConfig({ cwd: folderWith(t, uncommented(configTemplate())), env: {} })
  assert.equal(full.clients.length, 1)
  assert.deepEqual(Object.keys(full.authorizationDetails.types), ['account_information'])
  assert.deepEqual(full.resources, { 'https://api.example.com': {} })
  assert.ok(Array.isArray(full.users) && full.users.length === 1)
  assert.deepEqual(withoutExamples(full), withoutExamples(plain))
})

function withoutExamples(config: Config) {
  const { clients, users, secret, database, email, webPush, deviceWebhook, metrics, texts, hints, ...others } = config
  const { authorizationDetails, resources, ...settings } = others
  return settings
}

test('the template names every setting, in its section', () => {
  const sections: string[] = []
  const named = new Set<string>()
  for (const [, indent = '', name = '', rest] of configTemplate().matchAll(/^( +)(?:\/\/ ?)?(\w+): (.*)$/gm)) {
    const depth = indent.length / 2 - 1
    sections.length = depth
    named.add([...sections, name].join('.'))
    if (rest === '{') sections[depth] = name
  }
  assert.deepEqual(
    [...settingKinds.keys()].filter((path) => !named.has(path)),
    [],
  )
})

test('all variables in the .env text exist', async () => {
  const env = { ...parseEnv(environmentTemplate().replace(/^#(?=DOORBELL_)/gm, '')), DOORBELL_DEVELOPMENT: 'exposed' }
  await loadConfig({ cwd: tmpdir(), env })
})

test('two .env texts have two secrets', () => {
  assert.notEqual(environmentTemplate(), environmentTemplate())
})

test('the template type-checks', (t) => {
  const root = join(import.meta.dirname, '..', '..')
  const cwd = folderWith(t, uncommented(configTemplate()))
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: {
      allowImportingTsExtensions: true,
      typeRoots: [join(root, 'node_modules', '@types')],
      paths: { 'doorbell-ciba': [join(root, 'src', 'config', 'config.ts')] },
    },
    include: ['doorbell.config.ts'],
  }
  writeFileSync(join(cwd, 'tsconfig.json'), JSON.stringify(config))
  writeFileSync(join(cwd, 'package.json'), '{"type":"module"}')
  execFileSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', cwd], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
})
