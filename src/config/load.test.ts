import assert from 'node:assert/strict'
import { execSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { certify } from '../../test/support/certificates.ts'
import { newSecret } from '../platform/crypto.ts'
import { ConfigError, type LoadOptions, loadConfig, resolveConfig } from './load.ts'

function folderWith(t: TestContext, files: Record<string, string> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'doorbell-config-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  return folder
}

async function problemsOf(options: LoadOptions): Promise<string[]> {
  try {
    await loadConfig(options)
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    return error.problems
  }
  return []
}

const memory = { development: true, database: 'sqlite::memory:' }

describe('files', () => {
  const ts = `import type { Missing } from 'nowhere'
const seconds: number = 7
export default { development: true, requests: { interval: seconds } } satisfies object`
  const js = 'export default { development: true, requests: { interval: 7 } }'
  const cases: [string, Record<string, string>][] = [
    ['.ts', { 'doorbell.config.ts': ts }],
    ['.ts in a commonjs package', { 'doorbell.config.ts': ts, 'package.json': '{"type":"commonjs"}' }],
    ['.js', { 'doorbell.config.js': js }],
    ['.js in a commonjs package', { 'doorbell.config.js': js, 'package.json': '{"type":"commonjs"}' }],
    ['.js that is commonjs', { 'doorbell.config.js': js.replace('export default', 'module.exports =') }],
    ['.json', { 'doorbell.config.json': '{ "development": true, "requests": { "interval": 7 } }' }],
    ['.ts before .json', { 'doorbell.config.ts': ts, 'doorbell.config.json': '{}' }],
  ]
  for (const [name, files] of cases) {
    test(name, async (t) => {
      const config = await loadConfig({ cwd: folderWith(t, files), env: {} })
      assert.equal(config.requests.interval, 7)
      assert.equal(config.requests.defaultExpiry, 600)
    })
  }

  test('a file named by option or by environment, or no file', async (t) => {
    const cwd = folderWith(t, { 'one.json': '{"port":1}', 'two.json': '{"port":2}' })
    const overrides = memory
    assert.equal((await loadConfig({ cwd, overrides, env: { DOORBELL_CONFIG: 'two.json' } })).port, 2)
    assert.equal((await loadConfig({ cwd, overrides, env: { DOORBELL_CONFIG: 'two.json' }, file: 'one.json' })).port, 1)
    assert.equal((await loadConfig({ cwd, overrides, env: {} })).port, 4000)
    assert.deepEqual(await problemsOf({ cwd, env: {}, file: 'three.json' }), ['three.json does not exist'])
  })

  const broken: [string, string, RegExp][] = [
    ['a.json', '{\n  // hush\n  "port": 1\n}', /^a\.json is not JSON at line 2, column 3; JSON has no comments/],
    [
      'b.json',
      '{ "secret": hush }',
      /^b\.json is not JSON; look for an extra or missing comma|^b\.json is not JSON at line 1/,
    ],
    ['c.json', '[]', /^c\.json must contain one object of settings/],
    ['d.ts', 'export const port: number = 1', /^d\.ts must have a default export/],
    ['e.ts', 'export default { secret: "hush" "hush" }', /^e\.ts has a syntax error/],
    ['f.js', 'export default { secret: "hush" "hush" }', /^f\.js has a syntax error/],
    ['g.ts', 'throw new Error("PORT is not set"); export default {}', /^g\.ts cannot be loaded: PORT is not set/],
    ['h.ts', 'import x from "not-installed-at-all"\nexport default { x }', /^h\.ts cannot be loaded.*not installed/],
    ['i.yaml', 'port: 1', /^i\.yaml must end in \.ts, \.js or \.json/],
  ]
  for (const [name, text, expected] of broken) {
    test(`${name}, broken`, async (t) => {
      const cwd = folderWith(t, { [name]: text })
      const problems = await problemsOf({ cwd, env: { DOORBELL_ZEBRA: '1' }, file: name })
      assert.match(problems[0]!, expected)
      assert.equal(problems[1], 'DOORBELL_ZEBRA is not a setting')
      assert.doesNotMatch(problems.join(), /hush/)
    })
  }
})

test('each layer overrides the one before', async (t) => {
  const cwd = folderWith(t, {
    'doorbell.config.json': JSON.stringify({
      ...memory,
      requests: { interval: 2, defaultExpiry: 20, maxExpiry: 200 },
      clients: [],
    }),
  })
  const config = await loadConfig({
    cwd,
    env: { DOORBELL_REQUESTS_DEFAULT_EXPIRY: '30', DOORBELL_REQUESTS_MAX_EXPIRY: '300' },
    overrides: { requests: { maxExpiry: 400, interval: undefined }, port: undefined },
  })
  assert.deepEqual(
    [config.requests.interval, config.requests.defaultExpiry, config.requests.maxExpiry, config.port],
    [2, 30, 400, 4000],
  )
})

test('a secret in base64 is refused with the cause and the command that makes one in base64url', async (t) => {
  const cwd = folderWith(t)
  const secret = '+/fG0qg9Kx0Tz1v5YrW2aN8bQm4cLdEoUjHsPiRtVyw='
  const [problem = ''] = await problemsOf({
    cwd,
    env: { DOORBELL_ISSUER: 'https://id.example.com', DOORBELL_SECRET: secret },
  })
  assert.match(
    problem,
    /it is 44 characters long, with characters other than .* \("\+", "\/" and "=" are base64, not base64url\)/,
  )
  const [, command = ''] = /; make one with: (.*)$/.exec(problem) ?? []
  const made = execSync(command, { encoding: 'utf8' }).trim()
  assert.deepEqual(
    await problemsOf({ cwd, env: { DOORBELL_ISSUER: 'https://id.example.com', DOORBELL_SECRET: made } }),
    [],
  )
  assert.ok(!problem.includes(secret))
})

test('problems of the file, the environment and the rules are reported together, with the name of the variable', async (t) => {
  const cwd = folderWith(t, { 'doorbell.config.json': '{ "prot": 1, "requests": { "maxExpiry": 5 } }' })
  const env = { DOORBELL_REQUESTS_INTERVAL: 'five', DOORBELL_SECRET: 'hush', DOORBELL_ISUER: 'x' }
  const problems = await problemsOf({ cwd, env })
  assert.deepEqual(problems, [
    'DOORBELL_ISUER is not a setting; did you mean DOORBELL_ISSUER?',
    'secret (DOORBELL_SECRET) must be at least 32 bytes in base64url, which are 43 characters; it is 4 characters long; make one with: node -p "crypto.randomBytes(32).toString(\'base64url\')"',
    'requests.interval (DOORBELL_REQUESTS_INTERVAL) must be a whole number of seconds, at least 1 and at most 3600; it is "five"',
    'prot is not a setting; did you mean port?',
    'issuer is missing; it must be the https address at which clients and users reach this server',
    'requests.defaultExpiry must be at most requests.maxExpiry (5 seconds); it is 600',
  ])
  assert.deepEqual(readdirSync(cwd), ['doorbell.config.json'])
})

describe('the path of the database', () => {
  test('is relative to the folder of the file, else to the working directory', async (t) => {
    const cwd = folderWith(t)
    mkdirSync(join(cwd, 'etc'))
    writeFileSync(join(cwd, 'etc', 'c.json'), '{ "development": true, "database": "sqlite:./x.db" }')
    assert.equal(
      (await loadConfig({ cwd, env: {}, file: 'etc/c.json' })).database,
      `sqlite:${join(cwd, 'etc', 'x.db')}`,
    )
    const bare = await loadConfig({ cwd, env: { DOORBELL_DEVELOPMENT: 'true' } })
    assert.equal(bare.database, `sqlite:${join(cwd, 'doorbell.db')}`)
  })
})

test('the folder of texts is relative to the folder of the file, and must exist', async (t) => {
  const cwd = folderWith(t)
  mkdirSync(join(cwd, 'etc', 'texts'), { recursive: true })
  writeFileSync(join(cwd, 'etc', 'c.json'), '{ "development": true, "texts": "texts" }')
  assert.equal((await loadConfig({ cwd, env: {}, file: 'etc/c.json' })).texts, join(cwd, 'etc', 'texts'))
  const wrong = loadConfig({ cwd, env: { DOORBELL_TEXTS: 'words' }, file: 'etc/c.json' })
  await assert.rejects(wrong, /texts must be a folder; there is none at .*words/)
})

test('the problems of a ConfigError are also available under their former name', () => {
  const error = new ConfigError(['issuer is missing'])
  assert.deepEqual(error.problems, ['issuer is missing'])
  assert.equal(error.complaints, error.problems)
})

describe('the secret in development', () => {
  test('is generated once and kept, readable by its owner only', async (t) => {
    const cwd = folderWith(t)
    const load = () => loadConfig({ cwd, env: {}, overrides: { development: true, database: 'sqlite:data/d.db' } })
    const first = await load()
    assert.equal((await load()).secret, first.secret)
    const path = join(cwd, 'data', 'd.db.secret')
    assert.equal(readFileSync(path, 'utf8'), `${first.secret}\n`)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(readdirSync(join(cwd, 'data')), ['d.db.secret'])
  })

  test('is the same for all processes that start together', async (t) => {
    const cwd = folderWith(t)
    const loads = Array.from({ length: 20 }, () => loadConfig({ cwd, env: {}, overrides: { development: true } }))
    const secrets = (await Promise.all(loads)).map(({ secret }) => secret)
    assert.equal(new Set(secrets).size, 1)
    assert.deepEqual(readdirSync(cwd), ['doorbell.db.secret'])
  })

  test('is kept in the working directory if the database is a server, and not kept for a database in memory', async (t) => {
    const cwd = folderWith(t)
    await loadConfig({ cwd, env: {}, overrides: memory })
    assert.deepEqual(readdirSync(cwd), [])
    await loadConfig({ cwd, env: {}, overrides: { development: true, database: 'postgres://h/d' } })
    assert.deepEqual(readdirSync(cwd), ['doorbell.secret'])
  })

  test('is not generated if one is configured, and not replaced if the file is damaged', async (t) => {
    const secret = newSecret()
    const cwd = folderWith(t, { 'doorbell.db.secret': 'hush' })
    const given = { cwd, env: { DOORBELL_SECRET: secret }, overrides: { development: true } }
    assert.equal((await loadConfig(given)).secret, secret)
    const problems = await problemsOf({ cwd, env: {}, overrides: { development: true } })
    assert.deepEqual(problems, ['secret in doorbell.db.secret is not a valid secret (4 characters); delete that file'])
  })
})

test('given settings are resolved without file and environment, and frozen', async () => {
  const config = await resolveConfig(memory)
  assert.ok(Object.isFrozen(config))
  assert.equal(config.secret.length, 43)
})

test('TLS is given as texts or as files beside the configuration; key and certificate must match', async (t) => {
  const cwd = folderWith(t)
  const one = await certify({ subject: 'CN=one' })
  const other = await certify({ subject: 'CN=other' })
  for (const [name, text] of Object.entries({ 'k.pem': one.key, 'c.pem': one.cert, 'other.pem': other.key })) {
    writeFileSync(join(cwd, name), text)
  }
  const load = (tls: Record<string, string>) => {
    writeFileSync(join(cwd, 'c.json'), JSON.stringify({ development: true, tls }))
    return loadConfig({ cwd, env: {}, file: 'c.json' })
  }
  assert.equal((await load({ key: 'k.pem', cert: 'c.pem', clientCa: 'c.pem' })).tls?.key, one.key.trim())
  assert.equal((await load({ key: one.key, cert: one.cert })).tls?.cert, one.cert)
  for (const [tls, says] of [
    [{ key: 'k.pem', cert: 'none.pem' }, /tls.cert must be a file with a PEM certificate, or its text/],
    [{ key: 'other.pem', cert: 'c.pem' }, /tls.key and tls.cert do not match/],
    [{ key: 'c.pem', cert: 'c.pem' }, /tls.key and tls.cert cannot be used/],
    [{ key: 'k.pem' }, /tls.cert is missing/],
  ] as const) {
    await assert.rejects(load(tls), (error: Error) => says.test(error.message) && !error.message.includes('PRIVATE'))
  }
})

test('a private certificate authority is given as a text or a file, and must be valid', async (t) => {
  const cwd = folderWith(t)
  const { cert } = await certify({ subject: 'CN=house' })
  const torn = cert.replace(/\n.{8}/, '\n')
  for (const [name, text] of Object.entries({ 'ca.pem': cert + cert, 'torn.pem': cert + torn })) {
    writeFileSync(join(cwd, name), text)
  }
  const load = (ca: string) => {
    writeFileSync(join(cwd, 'c.json'), JSON.stringify({ development: true, notifications: { ca } }))
    return loadConfig({ cwd, env: {}, file: 'c.json' })
  }
  assert.equal((await load('ca.pem')).notifications.ca, (cert + cert).trim())
  assert.equal((await load(cert)).notifications.ca, cert)
  await assert.rejects(load('none.pem'), /notifications.ca must be a file with PEM certificates, or its text/)
  await assert.rejects(load('torn.pem'), /notifications.ca must contain only valid PEM certificates, at least one/)
})
