/** `doorbell doctor`: risky settings, and the other servers that Doorbell calls. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { Client } from 'pg'
import { systemClock } from '../../src/platform/clock.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import { migrate } from '../../src/platform/storage/migrate.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { certify } from '../support/certificates.ts'
import { freePort } from '../support/ports.ts'
import { freshPostgres } from '../support/postgres.ts'
import { cleanAfterSuite, openTerminal } from './terminal.ts'

interface Finding {
  about: string
  state: string
  says: string
  advice?: string
}

/** The statement that doctor prints for a role, and the case in which it does so. */
const lacking: [string, statement: RegExp, prepare: (owner: Client, role: string) => Promise<unknown>][] = [
  ['may not create tables', /grant create on schema public to \w+/, async () => {}],
  [
    'has no schema',
    /create schema doors authorization \w+/,
    (owner, role) => owner.query(`alter role ${role} set search_path = doors`),
  ],
  [
    'may not use its schema',
    /grant usage, create on schema doors to \w+/,
    (owner, role) => owner.query(`create schema doors; alter role ${role} set search_path = doors`),
  ],
]

for (const [what, pattern, prepare] of lacking) {
  test(`doctor says which statement permits migrations by a role that ${what}`, async (t) => {
    const { administrator, role, terminal } = await limitedRole(t)
    await prepare(administrator, role)
    assert.match((await terminal.run(['migrate'])).stderr, /doorbell doctor/i)
    const { stdout } = await terminal.run(['doctor'])
    const [statement] = pattern.exec(stdout) ?? assert.fail(stdout)
    await administrator.query(statement)
    assert.equal((await terminal.run(['migrate'])).code, 0)
    assert.doesNotMatch((await terminal.run(['doctor'])).stdout, /there are no tables|clock of the database/)
  })
}

test('doctor says which statement permits the use of the tables of another role, and who may migrate', async (t) => {
  const { administrator, terminal, url } = await limitedRole(t)
  const database = await openDatabase(url, { log: createLog('silent'), clock: systemClock })
  await migrate(database, systemClock)
  await database.close()
  const { stdout } = await terminal.run(['doctor'])
  const [statement] = /grant select, .* to limited_\w+/.exec(stdout) ?? assert.fail(stdout)
  await administrator.query(statement)
  assert.match((await terminal.run(['doctor'])).stdout, /up to date/)
  await administrator.query(
    'delete from doorbell_migrations where number = (select max(number) from doorbell_migrations)',
  )
  const { rows } = await administrator.query('select current_user as owner')
  assert.match(
    (await terminal.run(['doctor'])).stdout,
    new RegExp(`migrate" with the role ${rows[0].owner}, which owns`),
  )
})

/** A role that may only connect to the database. */
async function limitedRole(t: TestContext) {
  const { url, drop } = await freshPostgres()
  const role = `limited_${randomUUID().slice(0, 8)}`
  const administrator = new Client(url)
  await administrator.connect()
  await administrator.query(`create role ${role} login password 'hush'`)
  t.after(async () => {
    await administrator.query(`drop owned by ${role} cascade; drop role ${role}`)
    await administrator.end()
    await drop()
  })
  const limited = new URL(url)
  Object.assign(limited, { username: role, password: 'hush' })
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret(), DOORBELL_DATABASE: limited.href })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://id.example.com' }))
  return { administrator, role, terminal, url }
}

test('doctor says what to do if the database does not exist', async (t) => {
  const { url, drop } = await freshPostgres()
  t.after(drop)
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret(), DOORBELL_DATABASE: `${url}_unknown` })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://id.example.com' }))
  assert.match((await terminal.run(['doctor'])).stdout, /_unknown" does not exist.*\n.*create the database, or correct/)
})

test('doctor warns if the clock of this machine differs from that of the database', async (t) => {
  const { url, drop } = await freshPostgres()
  t.after(drop)
  const terminal = await openTerminal(t, { DOORBELL_SECRET: newSecret(), DOORBELL_DATABASE: url })
  await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://id.example.com' }))
  const shifted = `--import=${new URL('../support/shifted-clock.ts', import.meta.url).href}`
  for (const [ahead, says] of [
    [300_000, 'this machine is 300 s ahead of the clock of the database'],
    [-60_000, 'this machine is 60 s behind the clock of the database'],
  ] as const) {
    const env = { NODE_OPTIONS: shifted, DOORBELL_TEST_CLOCK_AHEAD: String(ahead) }
    const { findings } = (await terminal.json(['doctor'], { env })) as { findings: Finding[] }
    assert.deepEqual(
      findings.filter(({ about, state }) => about === 'database' && state === 'warn').map((finding) => finding.says),
      [says],
    )
  }
})

describe('doctor checks the settings', () => {
  const suite = cleanAfterSuite()

  async function findings(settings: object, secret = newSecret()): Promise<Finding[]> {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: secret })
    const config = { issuer: 'https://id.example.com', ...settings }
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
    return ((await terminal.json(['doctor'])) as { findings: Finding[] }).findings
  }
  const of = (found: Finding[], about: string) => found.filter((finding) => finding.about === about)

  test('warnings for a short secret, open registration, a proxy that is not configured', async () => {
    const client = { grant_types: ['urn:openid:params:grant-type:ciba'], backchannel_token_delivery_mode: 'poll' }
    const clients = [
      { ...client, client_id: 'short', client_secret: 'hush-hush' },
      { ...client, client_id: 'long', client_secret: newSecret() },
    ]
    const found = await findings({
      clients,
      registration: { mode: 'open' },
      limits: { perUser: { perMinute: 0 } },
    })
    const [secret, ...more] = of(found, 'secrets')
    assert.deepEqual([secret?.state, more.length, /of short is/.test(secret!.says)], ['warn', 0, true])
    assert.ok(!JSON.stringify(found).includes('hush-hush'))
    assert.match(of(found, 'registration')[0]!.advice!, /pretend/)
    assert.equal(of(found, 'limits')[0]!.state, 'warn')
    assert.match(of(found, 'proxy')[0]!.advice!, /proxy\.trust/)
  })

  test('polls that would be held for longer than clients wait', async () => {
    for (const [longPoll, says] of [
      [0, []],
      [25, []],
      [26, ['requests.longPoll is 26, but polls are held for 25 seconds at most']],
      [30, ['requests.longPoll is 30, but polls are held for 25 seconds at most']],
    ] as const) {
      const found = of(await findings({ requests: { longPoll } }), 'polls')
      assert.deepEqual(
        found.map((finding) => finding.says),
        says,
      )
    }
  })

  test('members of clients that are not used are warnings', async () => {
    const client = { client_id: 'long', client_secret: newSecret(), backchannel_token_delivery_mode: 'poll' }
    const found = await findings({ clients: [{ ...client, backchannel_requires_passkey: true }] })
    const named = of(found, 'clients').find(({ state, says }) => state === 'warn' && says.includes('passkey'))
    assert.match(named!.says, /^clients\[0\]\.backchannel_requires_passkey is not used; did you mean/)
  })

  test('weak values are warnings; a weak key fails', async () => {
    const [key, password, ...more] = of(
      await findings(
        { users: [{ username: 'ana', password: 'x' }], metrics: { token: newSecret() } },
        'doorbell-secret-doorbell-secret-doorbell-secret',
      ),
      'secrets',
    )
    assert.deepEqual([key?.state, password?.state, more], ['fail', 'warn', []])
    assert.match(key!.says, /^the secret does not look random/)
    assert.match(password!.says, /^the password of ana has fewer than 8 characters/)
  })

  test('a secret made of words fails', async () => {
    const found = of(await findings({}, 'my-super-secret-key-for-doorbell-production-2026'), 'secrets')
    assert.deepEqual(
      found.map(({ state, says }) => [state, /^the secret does not look random/.test(says)]),
      [['fail', true]],
    )
  })

  test('no findings in development, or with strong values', async () => {
    const good = {
      registration: { mode: 'open' },
      requests: { unknownUsers: 'pretend' },
      proxy: { trust: ['10.0.0.1'] },
    }
    const open = { registration: { mode: 'open' }, development: true, issuer: 'http://localhost:4000' }
    for (const settings of [good, open]) {
      const found = await findings(settings)
      for (const about of ['secrets', 'registration', 'limits', 'proxy']) assert.deepEqual(of(found, about), [])
    }
  })

  test('all problems are reported at once, as by "serve", including missing settings', async () => {
    const wrong = { issuer: 'http://id.example.com', port: 'x', tokens: { accessTtl: -1 } }
    for (const env of [{}, { DOORBELL_SECRET: 'hush', DOORBELL_REQUESTS_INTERVAL: 'five' }]) {
      const terminal = await openTerminal(suite, env)
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(wrong))
      const served = (await terminal.run(['serve'])).stderr.split('\n').filter((line) => line.startsWith('  - '))
      assert.ok(served.length >= 4, served.join('\n'))
      assert.ok(served.some((line) => line.startsWith('  - secret ')))
      const found = ((await terminal.json(['doctor'])) as { findings: Finding[] }).findings
      assert.deepEqual(
        found.map(({ says }) => `  - ${says}`),
        served,
      )
      assert.deepEqual(await readdir(terminal.cwd), ['doorbell.config.json'], 'looking leaves nothing behind')
    }
  })

  test('a file .env that is not loaded: serve and doctor say so, and not the values', async () => {
    const terminal = await openTerminal(suite)
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify({ issuer: 'https://id.example.com' }))
    const secret = newSecret()
    await writeFile(join(terminal.cwd, '.env'), `# production\nDOORBELL_SECRET=${secret}\nexport DOORBELL_PORT=4001\n`)
    const hint =
      'he file .env in this folder contains DOORBELL_SECRET and 1 more, but Doorbell does not read this file; load it into the shell: set -a; . ./.env; set +a'
    const { stderr } = await terminal.run(['serve'])
    assert.ok(stderr.includes(hint), stderr)
    const { stdout } = await terminal.run(['doctor'])
    assert.ok(stdout.includes(hint), stdout)
    assert.ok(!(stderr + stdout).includes(secret))
    const loaded = { DOORBELL_SECRET: 'x', DOORBELL_PORT: '4001' }
    assert.doesNotMatch((await terminal.run(['doctor'], { env: loaded })).stdout, /\.env/)
  })

  test('a configuration file with a syntax error: advice to correct the file', async () => {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: newSecret() })
    for (const [name, text] of [
      ['doorbell.config.ts', 'export default { // tls: {\n key: 1,\n },\n }'],
      ['doorbell.config.json', '{ "issuer": '],
    ] as const) {
      await writeFile(join(terminal.cwd, name), text)
      const { findings } = (await terminal.json(['doctor', '--config', name])) as { findings: Finding[] }
      assert.match(findings[0]!.advice!, /^correct the file; if you have removed "\/\/"/)
    }
  })

  test('a certificate: its host, and the days until it expires', async () => {
    const server = (names: string, until: number) =>
      certify({ subject: 'CN=x', names: [{ type: 'dns', value: names }], until, from: -30 })
    for (const [certified, state, says] of [
      [await server('id.example.com', 300), 'ok', /is for id\.example\.com/],
      [await server('id.example.com', 5), 'warn', /expires in [45] days/],
      [await server('id.example.com', -2), 'fail', /has expired/],
      [await server('other.example.com', 300), 'warn', /is not for id\.example\.com/],
    ] as const) {
      const [finding] = of(await findings({ tls: { key: certified.key, cert: certified.cert } }), 'tls')
      assert.equal(finding?.state, state, finding?.says)
      assert.match(finding!.says, says)
    }
  })

  test('the issuers of hints, and the provider where users sign in', async (t: TestContext) => {
    const served = createServer((request, response) =>
      response.end(JSON.stringify(request.url === '/keys' ? { keys: [] } : { issuer: 'x' })),
    )
    await new Promise<void>((resolve) => served.listen(0, '127.0.0.1', resolve))
    t.after(() => served.close())
    const there = `http://127.0.0.1:${(served.address() as AddressInfo).port}`
    const nowhere = `http://127.0.0.1:${await freePort()}`
    const settings = (url: string, path = '/keys') => ({
      development: true,
      issuer: 'http://localhost:4000',
      hints: { tokenIssuers: [{ issuer: 'x', jwksUri: url + path }] },
      login: { issuer: url, client_id: 'x', client_secret: 'x' },
    })
    const states = (found: Finding[]) => ['hints', 'login'].map((about) => of(found, about)[0]?.state)
    const found = await findings(settings(there))
    assert.deepEqual(states(found), ['ok', 'ok'])
    assert.match(
      of(found, 'login')[0]!.says,
      /the redirect URI of this server is http:\/\/localhost:4000\/session\/callback$/,
    )
    assert.deepEqual(states(await findings(settings(nowhere))), ['fail', 'fail'])
  })

  test('no users yet: a warning, unless they are created when they first sign in', async () => {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: newSecret() })
    const login = { issuer: `http://127.0.0.1:${await freePort()}`, client_id: 'x', client_secret: 'x' }
    for (const [createUsers, state] of [
      [false, 'warn'],
      [true, 'ok'],
    ] as const) {
      const config = { development: true, issuer: 'http://localhost:4000', login: { ...login, createUsers } }
      await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
      await terminal.run(['migrate'])
      const { findings } = (await terminal.json(['doctor'])) as { findings: Finding[] }
      assert.equal(of(findings, 'users')[0]?.state, state)
    }
  })
})
