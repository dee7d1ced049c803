/** The three terminals of a new user: a server, a client, and a device. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { before, describe, test } from 'node:test'
import { freePort } from '../support/ports.ts'
import { cleanAfterSuite, openTerminal, type Running, type Terminal } from './terminal.ts'

describe('the three terminals of a new user', () => {
  const suite = cleanAfterSuite()
  let first: Terminal
  let second: Terminal
  let third: Terminal
  let issuer: string[]
  let server: Running

  before(async () => {
    const port = await freePort()
    issuer = ['--issuer', `http://localhost:${port}`]
    first = await openTerminal(suite, { DOORBELL_REQUESTS_INTERVAL: '1' })
    // The client and the device run in other folders.
    second = await openTerminal(suite)
    third = await openTerminal(suite)
    server = await first.serve(['--demo', '--port', String(port)])
  })

  const sendRequest = (client: string, user: string, ...more: string[]) =>
    second.start(['request', '--client', client, '--login-hint', user, ...issuer, ...more])
  const answer = (user: string, ...how: string[]) => third.run(['device', '--user', user, ...issuer, '--wait', ...how])

  test('the till sends a request, Alice approves, and the tokens are shown', async () => {
    const request = sendRequest('demo-till', 'alice@example.com', '--binding-message', 'Coffee 4.20')
    await request.says(/Waiting for the decision/)

    const waiting = await answer('alice', '--list')
    assert.match(waiting.stdout, /Corner Café Till asks for your approval/)
    assert.match(waiting.stdout, /Coffee 4\.20/)
    const [, typed = ''] = /^ +npx doorbell (device .*--approve .*)$/m.exec(waiting.stdout) ?? []

    const approved = await third.run(typed.split(' '))
    assert.equal(approved.code, 0, `${typed}: ${approved.stderr}`)
    const { code, stdout, stderr } = await request.ended
    assert.equal(code, 0, stderr)
    assert.match(stdout, /auth_req_id +\S{43}/)
    assert.match(stdout, /Approved\./)
    assert.match(stdout, /access_token +\S+/)
    assert.match(stdout, /"sub": "alice"/)
  })

  for (const [client, mode] of [
    ['demo-till', 'poll'],
    ['demo-shop', 'ping'],
    ['demo-bank', 'push'],
  ] as const) {
    test(`${mode}: the exit code is 0 for approved, 2 for denied, 3 for expired`, async () => {
      const approved = sendRequest(client, 'bob', '--scope', 'openid offline_access', '--json')
      assert.equal((await answer('bob', '--approve', 'latest')).code, 0)
      const { code, stdout, stderr } = await approved.ended
      assert.equal(code, 0, stderr)
      const result = JSON.parse(stdout)
      assert.equal(result.outcome, 'approved')
      assert.equal(result.mode, mode)
      assert.equal(result.id_token.claims.sub, 'bob')
      assert.equal(typeof result.tokens.access_token, 'string')
      assert.match(stderr, /Waiting/)

      const denied = sendRequest(client, 'bob', '--json')
      assert.equal((await answer('bob', '--deny', 'latest')).code, 0)
      const no = await denied.ended
      assert.equal(no.code, 2, no.stderr)
      assert.equal(JSON.parse(no.stdout).outcome, 'denied')

      const late = await sendRequest(client, 'carol', '--requested-expiry', '1').ended
      assert.equal(late.code, 3, late.stderr)
      assert.match(late.stdout, /Expired: the user did not answer in time/)
    })
  }

  test('a request that is decided already, or about another user, is an error in plain words', async () => {
    const request = sendRequest('demo-till', 'alice')
    await request.says(/Waiting/)
    const waiting = await third.json(['device', '--user', 'alice', ...issuer])
    const [{ request_id: id }] = waiting.requests as [{ request_id: string }]

    const forAnother = await answer('carol', '--approve', id)
    assert.equal(forAnother.code, 1)
    assert.match(forAnother.stderr, /No request \S+ is waiting for carol/)

    await answer('alice', '--deny', id)
    const again = await answer('alice', '--approve', id)
    assert.equal(again.code, 1)
    assert.match(again.stderr, /The request was already denied\./)
    assert.equal((await request.ended).code, 2)
  })

  test('beside the server, all commands work without a configuration', async () => {
    const requests = await first.run(['requests', '--all'])
    assert.equal(requests.code, 0, requests.stderr)
    assert.match(requests.stdout, /demo-till +alice +poll/)
    assert.match(requests.stderr, /the demo configuration .*database \.\/doorbell\.db/)

    const outbox = await first.run(['outbox'])
    assert.match(outbox.stdout, /push +demo-bank +delivered/)
    const examined = await first.run(['doctor'])
    assert.equal(examined.code, 0)
    const logged = server.output().match(/"client\.configured"/g)
    assert.match(examined.stdout, new RegExp(`clients +${logged?.length} registered`), 'as many as the server logged')
  })

  test('acting as a client or device creates no files', async () => {
    assert.deepEqual([...(await readdir(second.cwd)), ...(await readdir(third.cwd))], [])
  })

  test('an error of the provider is shown in its words, with advice', async () => {
    const nobody = sendRequest('demo-till', 'nobody', '--json')
    const { code, stdout, stderr } = await nobody.ended
    assert.equal(code, 1)
    assert.match(stderr, /unknown_user_id/)
    assert.match(stderr, /doorbell user list/)
    assert.equal(JSON.parse(stdout).error, 'unknown_user_id')

    const wrong = await sendRequest('demo-till', 'alice', '--client-secret', 'wrong').ended
    assert.equal(wrong.code, 1)
    assert.match(wrong.stderr, /invalid_client/)
  })
})

test('without a server, the error says how to start one', async (t) => {
  const terminal = await openTerminal(t)
  const port = await freePort()
  const args = ['--issuer', `http://localhost:${port}`]
  const ringing = await terminal.run(['request', '--client', 'demo-till', '--login-hint', 'alice', ...args])
  assert.equal(ringing.code, 1)
  assert.match(ringing.stderr, /No server answers at http:\/\/localhost:\d+\. Is the server running\?/)
  assert.equal((await terminal.run(['device', '--user', 'alice', ...args])).code, 1)
})

test('without a database, commands that read create none', async (t) => {
  const terminal = await openTerminal(t)
  for (const command of [
    ['requests'],
    ['outbox'],
    ['keys'],
    ['client', 'list'],
    ['user', 'list'],
    ['migrate', '--status'],
  ]) {
    const { code, stderr } = await terminal.run(command)
    assert.equal(code, 1, command.join(' '))
    assert.match(stderr, /There is no database at \.\/doorbell\.db yet/)
  }
  assert.deepEqual(await readdir(terminal.cwd), [], 'neither a database nor a file with a secret')
})

test('a client without an address for its pings, or with a misspelt mode, is refused in the words of the options', async (t) => {
  const terminal = await openTerminal(t)
  for (const [options, message] of [
    [['--mode', 'ping'], /--mode ping needs --endpoint <url>: the address to which the server sends each ping/],
    [['--mode', 'push'], /--mode push needs --endpoint <url>/],
    [['--mode', 'pol'], /--mode <mode>.*Allowed choices are poll, ping, push/],
  ] as const) {
    const { code, stderr } = await terminal.run(['client', 'add', '--id', 'till', ...options])
    assert.equal(code, 1)
    assert.match(stderr, message)
  }
  assert.deepEqual(await readdir(terminal.cwd), [], 'neither a database nor a file with a secret')
})

test('a secret in base64 is explained without a stack trace, by every command and whatever is logged', async (t) => {
  const secret = '+/fG0qg9Kx0Tz1v5YrW2aN8bQm4cLdEoUjHsPiRtVyw='
  const terminal = await openTerminal(t, { DOORBELL_ISSUER: 'https://id.example.com', DOORBELL_SECRET: secret })
  for (const command of [['serve'], ['migrate'], ['user', 'add', '--username', 'dora'], ['requests']]) {
    for (const level of ['info', 'debug']) {
      const { code, stdout, stderr } = await terminal.run(command, { env: { DOORBELL_LOG_LEVEL: level } })
      assert.equal(code, 1, command.join(' '))
      assert.match(stderr, /secret \(DOORBELL_SECRET\) must be .* are base64, not base64url\); make one with: node -p /)
      assert.doesNotMatch(stdout + stderr, /^ +at |\.ts:\d/m)
      assert.ok(!(stdout + stderr).includes(secret))
    }
  }
})

test('the device command is refused in production', async (t) => {
  const terminal = await openTerminal(t)
  const { code, stderr } = await terminal.run(['device', '--user', 'alice', '--issuer', 'https://id.example.com'])
  assert.equal(code, 1)
  assert.match(stderr, /for development/)
})
