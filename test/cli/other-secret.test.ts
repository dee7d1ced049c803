/** From the demo to production in one folder: stored values were encrypted with a secret that is kept in a file. */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { freePort } from '../support/ports.ts'
import { openTerminal } from './terminal.ts'

for (const engine of engines) {
  test(`serve, doctor and other commands name the file of the former secret, or a new database, on ${engine.name}`, async (t) => {
    const { url, drop } = await engine.fresh()
    t.after(drop)
    const isFile = engine.name === 'sqlite'
    const database = isFile ? 'sqlite:./doorbell.db' : url
    const file = isFile ? 'doorbell.db.secret' : 'doorbell.secret'
    const terminal = await openTerminal(t, { DOORBELL_DATABASE: database })
    const port = await freePort()
    const demo = await terminal.serve(['--demo', '--migrate', '--port', String(port)])
    demo.process.kill('SIGTERM')
    assert.equal((await demo.ended).code, 0)

    const config = { issuer: 'https://id.example.com', port }
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
    const env = { DOORBELL_SECRET: newSecret() }
    const wayOut = new RegExp(
      `\\./${file} contains the secret that was used in development: set DOORBELL_SECRET to it, or use a new database`,
    )
    const served = await terminal.run(['serve'], { env })
    assert.equal(served.code, 1)
    assert.match(served.stderr, /another secret is configured/)
    assert.match(served.stderr, wayOut)
    const advice = async (how: { env: Record<string, string> }) => {
      const { findings } = (await terminal.json(['doctor'], how)) as { findings: Record<string, string>[] }
      const secret = findings.find(({ about }) => about === 'secret')
      return [secret?.state, secret?.advice ?? ''] as const
    }
    const [state, says] = await advice({ env })
    assert.equal(state, 'fail')
    assert.match(says, wayOut)

    const former = (await readFile(join(terminal.cwd, file), 'utf8')).trim()
    assert.deepEqual(await advice({ env: { DOORBELL_SECRET: former } }), ['ok', ''])

    const list = async () => (await terminal.json(['client', 'list'], { env: { DOORBELL_SECRET: former } })).clients
    const before = await list()
    for (const command of [
      ['client', 'add', '--id', 'shop', '--mode', 'poll'],
      ['user', 'add', '--username', 'eve'],
      ['keys', 'rotate'],
    ]) {
      const { code, stderr } = await terminal.run(command, { env })
      assert.deepEqual([command, code], [command, 1])
      assert.match(stderr, /The server of this database uses another secret than this command/)
      assert.match(stderr, wayOut)
    }
    assert.deepEqual(await list(), before)
    const again = await terminal.serve([], { env: { DOORBELL_SECRET: former, DOORBELL_SHUTDOWN_DELAY: '0' } })
    again.process.kill('SIGTERM')
    assert.equal((await again.ended).code, 0)
  })
}
