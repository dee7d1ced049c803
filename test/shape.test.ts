/** The repository about itself: agreements that would otherwise rest on memory. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { test } from 'node:test'

const sources = globSync('src/**/*.ts').filter((file) => !file.endsWith('.test.ts'))
const text = (file: string) => readFileSync(file, 'utf8')
const code = (file: string) => text(file).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*/gm, '')

/** The room a file is in: its folder, or for the files directly in src/ their own name. */
const roomOf = (file: string) => (dirname(file) === 'src' ? basename(file, '.ts') : dirname(file).split('/')[1]!)

const leaves = ['audit', 'clock', 'complaint', 'log', 'profile', 'refusal', 'secret']
const ground = ['password', 'storage', 'http', 'pages', 'i18n', ...leaves]

/** Who may use whom. Imports point down this list and never back. */
const mayUse: Record<string, readonly string[]> = {
  // ── the wiring and the faces ──
  cli: [
    'index',
    'provider',
    'config',
    'endings',
    'client-registration',
    'client',
    'user-hint',
    'authentication-device',
    'authentication-request',
    'authorization-server',
    'outbox',
    'delivery',
    'token',
    'device-channels',
    'passkey',
    ...ground,
  ],
  index: [
    'provider',
    'config',
    'authorization-details',
    'client',
    'user-hint',
    'authentication-request',
    'authentication-device',
    'decision',
    ...leaves,
  ],
  provider: [
    'config',
    'authorization-details',
    'demo',
    'development',
    'consent-app',
    'device-channels',
    'health',
    'metrics',
    'retention',
    'endings',
    'token-endpoint',
    'client-settings',
    'client-registration',
    'backchannel-request',
    'authentication-device',
    'decision',
    'delivery',
    'token',
    'outbox',
    'authorization-server',
    'passkey',
    'dpop',
    'authentication-request',
    'client-authentication',
    'client-certificate',
    'user-hint',
    'client',
    ...ground,
  ],
  // It must be replaceable by the host, so it knows nothing of the story.
  'consent-app': ground,
  // Its till is a client: it knows the server by its answers.
  demo: ground,
  development: [
    'device-channels',
    'authentication-device',
    'decision',
    'authentication-request',
    'authorization-server',
    'outbox',
    'user-hint',
    ...ground,
  ],
  'device-channels': ['authentication-device', 'delivery', 'outbox', 'user-hint', 'client', ...ground],
  health: ground,
  metrics: ['outbox', ...ground],
  retention: ground,
  // What ends together, wherever it is kept.
  endings: ['decision', 'outbox', 'authentication-request', 'authorization-server', 'user-hint', ...ground],
  config: ['resource', 'authorization-details', 'client', 'user-hint', ...leaves],
  // ── the story ──
  'token-endpoint': [
    'authorization-details',
    'client-certificate',
    'delivery',
    'token',
    'dpop',
    'authentication-request',
    'client',
    ...ground,
  ],
  'client-registration': ['client', ...ground],
  'client-settings': ['client-certificate', 'client', ...ground],
  'backchannel-request': [
    'resource',
    'authorization-details',
    'client-certificate',
    'dpop',
    'authentication-request',
    'user-hint',
    'client',
    'outbox',
    ...ground,
  ],
  'authentication-device': [
    'authorization-details',
    'client-certificate',
    'decision',
    'outbox',
    'authentication-request',
    'authorization-server',
    'dpop',
    'passkey',
    'user-hint',
    'client',
    ...ground,
  ],
  decision: ['authorization-details', 'delivery', 'outbox', 'authentication-request', 'client', ...ground],
  delivery: ['token', 'outbox', 'authentication-request', ...ground],
  token: [
    'resource',
    'authorization-details',
    'authorization-server',
    'authentication-request',
    'user-hint',
    ...ground,
  ],
  'authorization-server': [
    'resource',
    'authorization-details',
    'client-certificate',
    'dpop',
    'passkey',
    'user-hint',
    'client',
    ...ground,
  ],
  dpop: ['client-certificate', 'authentication-request', 'client', ...ground],
  'authentication-request': ['authorization-details', 'client', ...ground],
  'client-authentication': ['client-certificate', 'client', ...ground],
  passkey: ['user-hint', 'outbox', ...ground],
  'user-hint': ['client', 'outbox', ...ground],
  outbox: ground,
  client: ['client-certificate', ...ground],
  resource: ground,
  'authorization-details': ground,
  'client-certificate': ground,
  // ── the ground ──
  password: ['http', ...leaves],
  http: ['storage', ...leaves],
  storage: leaves,
  pages: leaves,
  i18n: leaves,
  ...Object.fromEntries(leaves.map((leaf) => [leaf, leaves])),
}

function importsOf(file: string): string[] {
  const specifiers = [...text(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, specifier]) => specifier!)
  return specifiers.map((specifier) => normalize(join(dirname(file), specifier)))
}

test('imports run downhill', () => {
  const uphill = sources.flatMap((file) =>
    importsOf(file)
      .filter((used) => used.startsWith('src/') && roomOf(used) !== roomOf(file))
      .filter((used) => !mayUse[roomOf(file)]?.includes(roomOf(used)))
      .map((used) => `${file} uses ${used}`),
  )
  assert.deepEqual(uphill, [])
})

test('what the list allows has no cycles', () => {
  const order = Object.keys(mayUse)
  for (const [room, used] of Object.entries(mayUse)) {
    if (leaves.includes(room)) continue
    for (const other of used) assert.ok(order.indexOf(other) > order.indexOf(room), `${room} may use ${other}`)
  }
})

test('SQL is only in stores and in the storage that runs it', () => {
  const statement = /[`'"]\s*(select|insert into|update|delete from|with)\s[\s\S]*?(from|set|values|into|as)\s/i
  const outside = sources.filter((file) => !file.endsWith('-store.ts') && roomOf(file) !== 'storage')
  assert.deepEqual(
    outside.filter((file) => statement.test(code(file))),
    [],
  )
})

test('requests and replies are only touched by endpoints and by the edge', () => {
  // The wiring makes the server, and the hand-over passes a request on as it is.
  const edge = ['src/provider.ts', 'src/openid-provider/forward-request.ts']
  const touching = sources
    .filter((file) => /from '(fastify|node:https?)'/.test(code(file)))
    .filter((file) => !file.endsWith('-endpoint.ts') && roomOf(file) !== 'http' && !edge.includes(file))
  assert.deepEqual(
    touching.filter((file) => roomOf(file) !== 'cli'),
    [],
  )
})

test('addresses given by clients are called only through the guard', () => {
  const calling = sources.filter(
    (file) => /(from |import\()'undici'|\bfetch\(/.test(text(file)) && roomOf(file) !== 'cli',
  )
  assert.deepEqual(calling, ['src/platform/http/outgoing.ts'])
})

test('nothing in the story asks the machine what time it is', () => {
  const asking = sources.filter((file) => /Date\.now\(\)|new Date\(\)|performance\.now/.test(text(file)))
  assert.deepEqual(
    asking.filter((file) => roomOf(file) !== 'cli'),
    ['src/platform/clock.ts'],
  )
})

test('nobody is called Manager, Helper or Utils, and nothing is left to do later', () => {
  const files = globSync('{src,test,scripts,bin}/**/*.{ts,js}').filter((file) => file !== 'test/shape.test.ts')
  const bad = files.filter(
    (file) => /manager|helper|utils?\b/i.test(basename(file)) || /\b(TODO|FIXME|XXX)\b/.test(text(file)),
  )
  assert.deepEqual(bad, [])
  const skipping = files.filter((file) => /\.(skip|only|todo)\(|\b(skip|only|todo): true/.test(text(file)))
  assert.deepEqual(skipping, [])
})

test('the map of the rooms names every room', () => {
  const map = text('ARCHITECTURE.md')
  const rooms = [...new Set(sources.map(roomOf))].filter((room) => room !== 'index' && room !== 'provider')
  assert.deepEqual(
    rooms.filter((room) => !map.includes(`${room}/`) && !map.includes(`${room}.ts`)),
    [],
  )
})

test('every public name is in the front door one by one', () => {
  assert.doesNotMatch(text('src/index.ts'), /export \*/)
})

test('every file and every test that the spec map names exists', () => {
  const rows = text('docs/spec-map.md').matchAll(/`((?:src|test)\/[^`]+)`/g)
  const named = [...new Set([...rows].map(([, path]) => path!))]
  assert.ok(named.length > 20, 'the spec map names files')
  assert.deepEqual(
    named.filter((path) => !existsSync(path)),
    [],
  )
})

test('every mistake of others has the named test that the spec map says it has', () => {
  const rows = [...text('docs/spec-map.md').matchAll(/^\| (M\d[\d, M]*?) *\|.*\| `([^`]+)` *\| (.*?) *\|$/gm)]
  assert.ok(rows.length > 25)
  const missing = rows.filter(([, , file, name]) => !text(file!).includes(name!.trim())).map(([row]) => row)
  assert.deepEqual(missing, [])
})

test('every defence that the threat model names has a test that exists, or says that it is the operator’s', () => {
  const rows = text('docs/threat-model.md')
    .split('## What stops them')[1]!
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
  assert.ok(rows.length > 20, 'the threat model names attacks')
  for (const [, attack, stop, proof = ''] of rows) {
    const named = [...proof.matchAll(/`((?:src|test|checks|bench)\/[^`]+)`/g)].map(([, path]) => path!)
    assert.ok(attack && stop && named.length > 0, `no test is named against: ${attack}`)
    assert.deepEqual(
      named.filter((path) => !existsSync(path)),
      [],
      attack,
    )
  }
})
