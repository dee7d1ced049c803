/** Commands that read the database or change registrations, beside the server. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { before, describe, test } from 'node:test'
import { externalUserId } from '../../src/user/external-user-id.ts'
import { type NotificationEndpoint, openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { freePort } from '../support/ports.ts'
import { cleanAfterSuite, openTerminal, type Running, type Terminal } from './terminal.ts'

const secret = 'northbank-secret-that-nobody-may-see'

describe('beside a server', () => {
  const suite = cleanAfterSuite()
  let terminal: Terminal
  let northbank: NotificationEndpoint
  let port: number
  let server: Running

  before(async () => {
    terminal = await openTerminal(suite, { DOORBELL_SECRET: 's'.repeat(43) })
    northbank = await openNotificationEndpoint()
    suite.after(northbank.close)
    // Response 404: parked at once, because a retry would have the same result.
    northbank.behaves(404)
    port = await freePort()
    await writeFile(
      join(terminal.cwd, 'doorbell.config.json'),
      JSON.stringify({
        port,
        development: true,
        requests: { interval: 1 },
        clients: [
          {
            client_id: 'northbank',
            client_name: 'Northbank',
            client_secret: secret,
            backchannel_token_delivery_mode: 'ping',
            backchannel_client_notification_endpoint: northbank.url,
          },
          { client_id: 'phones', client_secret: 'secret-of-the-phones', backchannel_device_service: true },
        ],
        users: [{ username: 'ana', email: 'ana@example.com', password: 'password-of-ana' }],
      }),
    )
    server = await terminal.serve([])
    await sendRequest('Transfer 100')
    await terminal.run(['device', '--user', 'ana', '--approve', 'latest'])
    await northbank.hears(1)
    await sendRequest('Transfer 200')
  })

  async function sendRequest(message: string): Promise<void> {
    const answer = await fetch(`http://localhost:${port}/backchannel/authorize`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`northbank:${secret}`).toString('base64')}` },
      body: new URLSearchParams({
        scope: 'openid',
        login_hint: 'ana',
        binding_message: message,
        client_notification_token: 'n'.repeat(32),
      }),
    })
    assert.equal(answer.status, 200)
  }

  test('requests lists the open ones, or all', async () => {
    const open = await terminal.run(['requests'])
    assert.match(open.stdout, /^REQUEST +CLIENT +USER +MODE +STATUS +CREATED +DEADLINE +MESSAGE\n/)
    assert.match(open.stdout, /northbank +ana +ping +pending +\d+ \w+ ago +in \d+ min +Transfer 200/)
    assert.doesNotMatch(open.stdout, /Transfer 100/)

    const { requests } = await terminal.json(['requests', '--all'])
    const messages = (requests as Record<string, unknown>[]).map(({ binding_message, status }) => [
      binding_message,
      status,
    ])
    assert.deepEqual(messages, [
      ['Transfer 200', 'pending'],
      ['Transfer 100', 'approved'],
    ])
  })

  test('outbox lists parked notifications with the reason, and retries them', async () => {
    const parked = await terminal.json(['outbox', 'list', '--state', 'parked'])
    const [ping] = parked.notifications as [Record<string, string>]
    assert.equal(ping.kind, 'ping')
    assert.equal(ping.address, northbank.url)
    assert.match((await terminal.run(['outbox', '--state', 'parked'])).stdout, /ping +northbank +parked .*answered 404/)

    const shown = await terminal.run(['outbox', 'show', ping.id!])
    assert.match(
      shown.stdout,
      /^A ping to northbank at http:\/\/localhost:\d+\/notify, created .* ago\. It was tried once/,
    )
    assert.match(shown.stdout, /answered 404\. Parked .* ago\. .*outbox retry/)
    assert.doesNotMatch(shown.stdout, /v1\.|nnnn/)
    assert.equal((await terminal.json(['outbox', 'show', ping.id!])).last_outcome, 'answered 404')

    northbank.behaves(204)
    const retried = await terminal.run(['outbox', 'retry', ping.id!])
    assert.equal(retried.code, 0, retried.stderr)
    await northbank.hears(2)

    assert.match((await terminal.run(['outbox', 'retry', ping.id!])).stderr, /, not parked/)
    assert.deepEqual((await terminal.json(['outbox', 'retry', '--all-parked'])).retried, [])
    assert.equal((await terminal.run(['outbox', 'retry'])).code, 1)
    assert.match((await terminal.run(['outbox', 'show', 'nothing'])).stderr, /no notification nothing/)
    assert.equal((await terminal.run(['outbox', '--state', 'lost'])).code, 1)
  })

  test('keys lists the signing keys, without the private halves', async () => {
    const { stdout } = await terminal.run(['keys'])
    assert.match(stdout, /ES256 +1 +.* ago +signs/)
    const { keys } = await terminal.json(['keys', 'list'])
    assert.equal((keys as unknown[]).length, 2)
    assert.doesNotMatch(JSON.stringify(keys), /"d"|v1\./)
  })

  test('doctor with the right and with the wrong secret', async () => {
    const well = await terminal.run(['doctor'])
    assert.equal(well.code, 0, well.stdout)
    for (const about of [
      'configuration',
      'database',
      'schema',
      'secret',
      'keys',
      'clients',
      'users',
      'issuer',
      'clock',
    ]) {
      assert.match(well.stdout, new RegExp(`ok +${about} `), about)
    }

    const wrong = { env: { DOORBELL_SECRET: 'w'.repeat(43) } }
    const ill = await terminal.run(['doctor'], wrong)
    assert.equal(ill.code, 1)
    assert.match(ill.stdout, /fail +secret +DOORBELL_SECRET does not decrypt the values in this database/)
    const { healthy, findings } = await terminal.json(['doctor'], wrong)
    assert.equal(healthy, false)
    const failed = (findings as Record<string, string>[]).filter(({ state }) => state === 'fail')
    assert.deepEqual(
      failed.map(({ about }) => about),
      ['secret'],
    )
    // On a copy, because the file itself is served.
    const copy = join(terminal.cwd, 'copy.db')
    const database = new DatabaseSync(join(terminal.cwd, 'doorbell.db'))
    database.exec(`vacuum into '${copy}'`)
    database.close()
    const onCopy = { env: { ...wrong.env, DOORBELL_DATABASE: `sqlite:${copy}` } }
    const started = await terminal.run(['serve', '--port', String(await freePort())], onCopy)
    assert.equal(started.code, 1)
    assert.match(started.stderr, /another secret is configured.*\n.*doorbell doctor/)
  })

  test('doctor reports problems of the configuration, and an unreachable database', async () => {
    const env = { DOORBELL_PORT: 'many', DOORBELL_DATABASE: 'postgres://nobody@127.0.0.1:1/none' }
    const broken = await terminal.run(['doctor'], { env })
    assert.equal(broken.code, 1)
    assert.match(broken.stdout, /fail +configuration +port \(DOORBELL_PORT\) must be/)

    const away = await terminal.run(['doctor'], { env: { DOORBELL_DATABASE: env.DOORBELL_DATABASE } })
    assert.equal(away.code, 1)
    assert.match(away.stdout, /fail +database +cannot reach the database postgres:\/\/127\.0\.0\.1:1\/none/)
  })

  test('client: add, act as it, show, remove', async () => {
    const added = await terminal.run(['client', 'add', '--id', 'till', '--name', 'Till', '--mode', 'poll'])
    assert.equal(added.code, 0, added.stderr)
    const [, tillSecret = ''] = /client_secret +(\S+)/.exec(added.stdout) ?? []
    assert.equal(tillSecret.length, 43)

    const request = terminal.start(['request', '--client', 'till', '--client-secret-stdin', '--login-hint', 'ana'], {
      input: tillSecret,
    })
    await request.says(/Waiting/)
    await terminal.run(['device', '--user', 'ana', '--deny', 'latest'])
    assert.equal((await request.ended).code, 2)

    const list = await terminal.run(['client', 'list'])
    assert.match(list.stdout, /northbank +Northbank +ping to http:\S+ +client_secret_basic +configuration/)
    assert.match(list.stdout, /till +Till +polls +client_secret_basic +command/)
    assert.doesNotMatch(list.stdout, /doorbell-consent-app/)
    const shown = await terminal.run(['client', 'show', 'till'])
    assert.match(shown.stdout, /secret +stored as a hash/)
    const everything = [
      list.stdout,
      shown.stdout,
      JSON.stringify(await terminal.json(['client', 'show', 'till'])),
    ].join()
    assert.ok(!everything.includes(tillSecret) && !everything.includes(secret))

    const twice = await terminal.run(['client', 'add', '--id', 'till', '--mode', 'poll'])
    assert.equal(twice.code, 1)
    assert.match(twice.stderr, /There is a client till already/)
    assert.equal((await terminal.run(['client', 'add', '--id', 'northbank', '--mode', 'poll'])).code, 1)
    const kept = await terminal.run(['client', 'remove', 'northbank'])
    assert.equal(kept.code, 1)
    assert.match(kept.stderr, /^northbank comes from the configuration/m)
    assert.match((await terminal.run(['client', 'remove', 'tilll'])).stderr, /did you mean till\?/)

    const invited = await terminal.json(['client', 'invite', '--uses', '2', '--expires', '30m'])
    assert.equal(String(invited.initial_access_token).length, 43)
    assert.deepEqual([invited.uses, invited.registration], [2, 'off'])
    for (const wrong of [
      ['--uses', '0'],
      ['--uses', 'x'],
      ['--expires', '5'],
      ['--expires', '0h'],
    ]) {
      assert.equal((await terminal.run(['client', 'invite', ...wrong])).code, 1, wrong.join(' '))
    }

    assert.equal((await terminal.run(['client', 'remove', 'till'])).code, 0)
    assert.equal((await terminal.run(['client', 'show', 'till'])).code, 1)
  })

  test("client: Doorbell's own client is neither listed, counted, added nor removed", async () => {
    const { clients } = await terminal.json(['client', 'list'])
    assert.deepEqual(
      (clients as { client_id: string }[]).map(({ client_id }) => client_id),
      ['northbank', 'phones'],
    )
    assert.match(
      (await terminal.run(['doctor'])).stdout,
      /clients +2 registered, 1 of them may send authentication requests/,
    )
    const own = 'doorbell-consent-app'
    assert.match((await terminal.run(['client', 'show', own])).stdout, /registered by +Doorbell itself/)
    const removed = await terminal.run(['client', 'remove', own])
    assert.deepEqual([removed.code, /is Doorbell's own client/.test(removed.stderr)], [1, true])
    const added = await terminal.run(['client', 'add', '--id', own, '--mode', 'poll'])
    assert.deepEqual([added.code, /is Doorbell's own client/.test(added.stderr)], [1, true])
  })

  test('client add: an http endpoint is named as the problem', async () => {
    const { code, stderr } = await terminal.run(
      ['client', 'add', '--mode', 'ping', '--endpoint', 'http://localhost:5000/ciba'],
      { env: { DOORBELL_DEVELOPMENT: 'false', DOORBELL_ISSUER: 'https://id.example.com' } },
    )
    assert.equal(code, 1)
    assert.match(stderr, /must be an https address, without user name and fragment; it begins with "http:\/\/"/)
  })

  test('client add: from a file, with all problems', async () => {
    const file = join(terminal.cwd, 'metadata.json')
    const endpoint = 'https://bank.example/ciba'
    await writeFile(file, JSON.stringify({ client_name: 'Bank', backchannel_token_delivery_mode: 'push' }))
    const wrong = await terminal.run(['client', 'add', '--file', file, '--auth-method', 'magic'])
    assert.equal(wrong.code, 1)
    assert.match(wrong.stderr, /backchannel_client_notification_endpoint is missing/)
    assert.match(wrong.stderr, /token_endpoint_auth_method must be one of/)

    const added = await terminal.json(['client', 'add', '--file', file, '--endpoint', endpoint])
    assert.equal(added.backchannel_client_notification_endpoint, endpoint)
    assert.match(String(added.client_id), /^[^-]\S{15}$/)
    assert.match(String(added.client_secret), /^\S{43}$/)
    const removed = await terminal.run(['client', 'remove', String(added.client_id)])
    assert.equal(removed.code, 0, removed.stderr)

    const metadata = { client_id: 'slip', backchannel_token_delivery_mode: 'poll', backchannel_requires_passkey: true }
    await writeFile(file, JSON.stringify(metadata))
    const slip = await terminal.run(['client', 'add', '--file', file])
    assert.equal(slip.code, 0, slip.stderr)
    assert.match(slip.stdout, /id_token_signed_response_alg +ES256/, 'the default, which the client has to know')
    assert.match(slip.stderr, /backchannel_requires_passkey is not used; did you mean backchannel_require_passkey\?/)
    assert.equal((await terminal.run(['client', 'remove', 'slip'])).code, 0)

    await writeFile(file, '{ "client_secret": "very-secret" ')
    const unreadable = await terminal.run(['client', 'add', '--file', file])
    assert.match(unreadable.stderr, /must contain one JSON object/)
    assert.doesNotMatch(unreadable.stderr, /very-secret/)
  })

  test('user: add, request, list, remove', async () => {
    const added = await terminal.run([
      'user',
      'add',
      '--username',
      'dora',
      '--email',
      'dora@example.com',
      '--name',
      'Dora',
    ])
    assert.equal(added.code, 0, added.stderr)
    assert.match(added.stdout, /^Added dora \(id [0-9a-f-]{36}\)\.$/m)
    assert.match(added.stdout, /password +\S{16}/)
    const given = await terminal.json(['user', 'add', '--username', 'emil', '--password-stdin'], { input: 'chosen\n' })
    assert.equal(given.username, 'emil')
    assert.match(String(given.id), /^[0-9a-f-]{36}$/, 'an id is never reused, so it is not a name')

    const { requests } = await terminal.json(['device', '--user', 'dora'])
    assert.deepEqual(requests, [])

    const coded = await terminal.json(['user', 'code', 'emil'])
    assert.match(String(coded.code), /^\d{6}$/)
    const chosen = await terminal.run(['user', 'code', 'emil', '--code-stdin'], { input: 'heron-4711\n' })
    assert.equal(chosen.code, 0)
    assert.ok(!chosen.stdout.includes('heron'))
    assert.match((await terminal.run(['user', 'code', 'emil', '--code-stdin'], { input: 'abc\n' })).stderr, /4 to 64/)
    assert.match((await terminal.run(['user', 'code', 'nobody'])).stderr, /There is no user nobody/)
    assert.deepEqual(await terminal.json(['user', 'code', 'emil', '--remove']), { id: given.id, code_set: false })

    const list = await terminal.run(['user', 'list'])
    assert.match(list.stdout, /ana +ana +ana@example\.com .*configuration/)
    assert.match(list.stdout, /[0-9a-f-]{36} +dora +dora@example\.com +Dora +command/)
    await terminal.json([
      'user',
      'add',
      '--id',
      externalUserId('https://op.example', '1'),
      '--email',
      'greta@op.example',
    ])
    assert.match((await terminal.run(['user', 'list'])).stdout, /ext_\S+ +greta@op\.example +sign-in/)
    const everything = list.stdout + JSON.stringify(await terminal.json(['user', 'list']))
    assert.doesNotMatch(everything, /scrypt|password/)

    const taken = await terminal.run(['user', 'add', '--email', 'ana@example.com'])
    assert.equal(taken.code, 1)
    assert.match(taken.stderr, /email is that of a user in the configuration/)
    assert.match((await terminal.run(['user', 'add', '--username', 'dora'])).stderr, /already/)
    assert.match((await terminal.run(['user', 'remove', 'ana'])).stderr, /^ana comes from the configuration/m)
    // M15: an operator can lock them, and gets advice for the other users.
    assert.match((await terminal.run(['user', 'lock', 'ana'])).stderr, /^ana comes from the configuration/m)
    assert.equal((await terminal.run(['user', 'lock', 'dora'])).code, 0)
    assert.equal((await terminal.run(['user', 'password', 'dora'])).code, 0)
    assert.match((await terminal.run(['user', 'list'])).stdout, /dora.*\(disabled\)/, 'a new password does not unlock')
    const { unlocked } = await terminal.json(['user', 'unlock', 'dora'])
    assert.match(String(unlocked), /^[0-9a-f-]{36}$/)
    assert.doesNotMatch((await terminal.run(['user', 'list'])).stdout, /disabled/)
    assert.equal((await terminal.run(['user', 'remove', 'dora'])).code, 0)
    assert.equal((await terminal.run(['user', 'remove', 'dora'])).code, 1)
    const again = await terminal.json(['user', 'add', '--username', 'dora'])
    assert.match(String(again.id), /^[0-9a-f-]{36}$/)
    assert.notEqual(again.id, unlocked, 'the same name, but not the same user')
    assert.equal((await terminal.run(['user', 'remove', 'dora'])).code, 0)
  })

  test('no secret is in what the server logged', () => {
    assert.match(server.output(), /request\.accepted/)
    for (const word of [secret, 'secret-of-the-phones', 'password-of-ana', 'n'.repeat(32)]) {
      assert.ok(!server.output().includes(word), word)
    }
  })
})
