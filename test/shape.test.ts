/** The repository about itself: agreements that would otherwise rest on memory. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { test } from 'node:test'

const sources = globSync('src/**/*.ts').filter((file) => !file.endsWith('.test.ts'))
const text = (file: string) => readFileSync(file, 'utf8')
const code = (file: string) => text(file).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*/gm, '')

/** The folder a file is in, two levels deep; for the files directly in src/ their own name. */
const folderOf = (file: string) =>
  dirname(file) === 'src' ? basename(file, '.ts') : dirname(file).split('/').slice(1, 3).join('/')
const topOf = (file: string) => folderOf(file).split('/')[0]!

/**
 * Who may use whom: imports run down this list and never up, so that there are no cycles, neither of folders nor of the
 * folders within one.
 */
const downhill = [
  // ── what is started ──
  'cli',
  'cli/doctor',
  'cli/client-role',
  'cli/context',
  'index',
  'doorbell',
  'composition',
  'routes',
  // ── what can be left out or replaced ──
  'consent-app',
  'demo',
  'development',
  'operations',
  'endings',
  // ── the protocol ──
  'authentication-device/api',
  'authentication-device/channels',
  'authentication-device',
  'ciba/backchannel-authentication',
  'ciba/token-endpoint',
  'ciba/decision',
  'ciba/client-notification',
  'ciba/tokens',
  'ciba/request-limits',
  'ciba/unknown-user',
  'ciba/authentication-request',
  'openid-provider/sign-in',
  'openid-provider',
  'openid-provider/signing-keys',
  // ── whom it is about ──
  'config',
  'config/settings',
  'ciba/user-hint',
  'user/user-code',
  'user/passkey',
  'user/attempts',
  'user/password',
  'user',
  'client/registration',
  'client/authentication',
  'client/pairwise',
  'client/sender-constraint',
  'client',
  'client/metadata',
  'client/certificate',
  'authorization-details',
  'outbox',
  // ── what every server has ──
  'platform/jose',
  'platform/http',
  'platform/storage',
  'platform/pages',
  'platform/i18n',
  'platform',
]

/** They use the server only through its public addresses: the app can be the host's own, and the demo's till is a client. */
const knowsOnlyThePlatform = ['consent-app', 'demo']

function importsOf(file: string): string[] {
  const specifiers = [...text(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(([, specifier]) => specifier!)
  return specifiers.map((specifier) => normalize(join(dirname(file), specifier)))
}

const imports = sources.flatMap((file) =>
  importsOf(file)
    .filter((used) => used.startsWith('src/') && folderOf(used) !== folderOf(file))
    .map((used) => ({ file, used })),
)

test('every folder has its place in the order', () => {
  assert.deepEqual([...new Set(sources.map(folderOf))].sort(), downhill.toSorted())
})

test('imports run downhill', () => {
  const uphill = imports.filter(({ file, used }) => downhill.indexOf(folderOf(used)) < downhill.indexOf(folderOf(file)))
  assert.deepEqual(uphill, [])
})

test('the consent app and the demo know nothing of the server', () => {
  const knowing = imports.filter(
    ({ file, used }) => knowsOnlyThePlatform.includes(topOf(file)) && topOf(used) !== 'platform',
  )
  assert.deepEqual(knowing, [])
})

test('SQL is only in stores and in the storage that runs it', () => {
  const statement = /[`'"]\s*(select|insert into|update|delete from|with)\s[\s\S]*?(from|set|values|into|as)\s/i
  const outside = sources.filter((file) => !file.endsWith('-store.ts') && folderOf(file) !== 'platform/storage')
  assert.deepEqual(
    outside.filter((file) => statement.test(code(file))),
    [],
  )
})

test('requests and replies are only touched by endpoints and by the edge', () => {
  // The server is put together from routes, a request that is forwarded is passed on as it is, and some endpoints have
  // much in common.
  const edge = [
    'src/doorbell.ts',
    'src/openid-provider/oidc-call.ts',
    'src/openid-provider/sign-in/sign-in-pages.ts',
    'src/consent-app/shell.ts',
    'src/authentication-device/api/user-route.ts',
  ]
  const touching = sources
    .filter((file) => /from '(fastify|node:https?)'/.test(code(file)))
    .filter(
      (file) =>
        !file.endsWith('-endpoint.ts') &&
        !['platform/http', 'composition'].includes(folderOf(file)) &&
        !edge.includes(file),
    )
  assert.deepEqual(
    touching.filter((file) => topOf(file) !== 'cli'),
    [],
  )
})

test('addresses given by clients are called only through the guard', () => {
  const calling = sources.filter(
    (file) => /(from |import\()'undici'|\bfetch\(/.test(text(file)) && topOf(file) !== 'cli',
  )
  assert.deepEqual(calling, ['src/platform/http/outgoing.ts'])
})

test('documents that anybody can make us fetch are not fetched by the caller that sends notifications', () => {
  const fetching = sources.filter((file) => /create(KeySets|SectorLists)\(|knownKeysOr\(/.test(code(file)))
  assert.ok(fetching.length > 0, 'there are such fetches')
  assert.deepEqual(
    fetching.filter((file) => /(caller: |fetchThrough\()toClients/.test(code(file))),
    [],
  )
})

test('nothing in the story asks the machine what time it is', () => {
  const asking = sources.filter((file) => /Date\.now\(\)|new Date\(\)|performance\.now/.test(text(file)))
  assert.deepEqual(
    asking.filter((file) => topOf(file) !== 'cli'),
    ['src/platform/clock.ts'],
  )
})

test('no file is named manager, helper or utils, and no file has a mark for work to be done later', () => {
  const files = globSync('{src,test,bench,checks,scripts,bin}/**/*.{ts,js}').filter(
    (file) => file !== 'test/shape.test.ts',
  )
  const bad = files.filter(
    (file) => /manager|helper|utils?\b/i.test(basename(file)) || /\b(TODO|FIXME|XXX)\b/.test(text(file)),
  )
  assert.deepEqual(bad, [])
  const skipping = files.filter((file) => /\.(skip|only|todo)\(|\b(skip|only|todo): true/.test(text(file)))
  assert.deepEqual(skipping, [])
})

test('no browser test closes anything with t.after, which closes a server before the browser that uses it', () => {
  const files = globSync('test/browser/**/*.ts')
  assert.ok(files.length > 0, 'there are browser tests')
  assert.deepEqual(
    files.filter((file) => /\bt\.after\(/.test(text(file))),
    [],
  )
})

test('each server that a browser test starts is closed by closeAfter, after the browser that uses it', () => {
  const count = (file: string, what: RegExp) => [...code(file).matchAll(what)].length
  const starts = /\b(createDoorbell|createServer|createTlsServer|spawn|fork)\(/g
  const started = globSync('test/browser/**/*.ts').map((file) => {
    const closed = count(file, /\bcloseAfter\(\w+, (async )?\(\) => \w+\.(close|kill)\(/g)
    return { file, notClosed: count(file, starts) - closed }
  })
  assert.deepEqual(
    started.filter(({ notClosed }) => notClosed !== 0),
    [],
  )
  // What tests open with a context, such as the stage.
  const opening = globSync('test/support/**/*.ts').filter(
    (file) => /\bcreateDoorbell\(/.test(code(file)) && /\bTestContext\b/.test(code(file)),
  )
  assert.ok(opening.length > 0, 'tests open servers in this way')
  assert.deepEqual(
    opening.filter((file) => !/\bcloseAfter\(/.test(code(file))),
    [],
  )
})

test('the map in ARCHITECTURE.md names every folder', () => {
  const map = text('ARCHITECTURE.md')
  const folders = downhill.filter((folder) => existsSync(join('src', folder)))
  assert.deepEqual(
    folders.filter((folder) => !map.includes(`${folder.split('/').at(-1)}/`)),
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

test('no file is longer than can be read at once', () => {
  const mostLines = 400
  // What requests may look like is one long table.
  const files = globSync('{src,test,bench,checks}/**/*.ts').filter((file) => file !== 'test/fuzz/grammar.ts')
  assert.deepEqual(
    files.filter((file) => text(file).split('\n').length - 1 > mostLines),
    [],
  )
})
