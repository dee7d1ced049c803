/**
 * A SQLite file has one server: a second one is refused, by whatever path it opens the file. Commands work beside it.
 */
import assert from 'node:assert/strict'
import { link, mkdir, rm, stat, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import sqlite from 'node:sqlite'
import { test } from 'node:test'
import { claimFile, readMountPoints } from '../../src/platform/storage/sole-server.ts'
import { openSqlite } from '../../src/platform/storage/sqlite.ts'
import { engines } from '../support/engines.ts'
import { openNeighbour } from '../support/neighbour.ts'
import { freePort } from '../support/ports.ts'
import { openStage } from '../support/stage.ts'
import { openTerminal } from './terminal.ts'

test('a second server on the file is refused, commands are not, and after SIGKILL the next server starts', async (t) => {
  const terminal = await openTerminal(t, { DOORBELL_DATABASE: 'sqlite:./doorbell.db' })
  const serve = async () => ['serve', '--demo', '--port', String(await freePort())]
  const first = await terminal.serve((await serve()).slice(1))
  const file = join(terminal.cwd, 'doorbell.db')
  assert.equal((await stat(`${file}-serving`)).mode & 0o777, 0o600)

  await mkdir(join(terminal.cwd, 'elsewhere'))
  await symlink(file, join(terminal.cwd, 'elsewhere', 'link.db'))
  for (const name of ['./doorbell.db', `//${file}`, 'elsewhere/../doorbell.db', './elsewhere/link.db']) {
    const { code, stdout, stderr } = await terminal.run(await serve(), { env: { DOORBELL_DATABASE: `sqlite:${name}` } })
    assert.equal(code, 1, name)
    assert.equal(stdout, '')
    assert.match(stderr, /^Another Doorbell server uses \S+\/doorbell\.db, .*stop the other server/m, name)
    assert.doesNotMatch(stderr, /^ +at /m)
  }

  const added = await terminal.run(['user', 'add', '--username', 'dora', '--email', 'dora@example.com'])
  assert.equal(added.code, 0, added.stderr)
  assert.equal((await terminal.run(['migrate'])).code, 0)
  assert.equal((await terminal.run(['outbox'])).code, 0)

  first.process.kill('SIGKILL')
  await first.ended
  const next = await terminal.serve((await serve()).slice(1))
  next.process.kill('SIGTERM')
  assert.equal((await next.ended).code, 0)
  const last = await terminal.serve((await serve()).slice(1))
  assert.match(last.output(), /server\.listening/)
})

test('a second server in one process is refused until the first is closed, also after a command', async (t) => {
  const stage = await openStage(t, { engine: engines[0]! })
  const path = stage.database.slice('sqlite:'.length)
  await assert.rejects(openNeighbour(t, stage), /another Doorbell server uses/)
  const command = openSqlite(path)
  await command.close()
  await assert.rejects(openNeighbour(t, stage), /another Doorbell server uses/, 'the lock is still held')
  assert.equal((await stage.ring('kiosk')).status, 200)
  await stage.restart()
  assert.equal((await stage.ring('kiosk')).status, 200)
})

test('a file with a hard link is served under neither name: a second server would use another lock and log', async (t) => {
  const stage = await openStage(t, { engine: engines[0]! })
  const path = stage.database.slice('sqlite:'.length)
  await link(path, `${path}.other`)
  const serve = (name: string) => openSqlite(name, { serves: true })
  assert.throws(() => serve(`${path}.other`), /has several names \(hard links\)/)
  await stage.doorbell.close()
  assert.throws(() => serve(path), /has several names \(hard links\)/)
  await openSqlite(path).close()
  await rm(`${path}.other`)
  await serve(path).close()
})

test('a file that is mounted by itself is not served: its lock and its log would stay in another folder', async (t) => {
  const stage = await openStage(t, { engine: engines[0]! })
  await stage.doorbell.close()
  const path = stage.database.slice('sqlite:'.length)
  const points = ['/', `${path}`]
  assert.throws(() => claimFile(path, sqlite, () => points), /has several names \(a mount\).*mount its folder/)
  claimFile(path, sqlite, () => ['/', dirname(path), `${path}.other`])()
  const mountinfo =
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 8:1 /x /data/my\\040db rw,noatime shared:1 - ext4 /dev/sda1 rw\n'
  assert.deepEqual(readMountPoints(mountinfo), ['/', '/data/my db'])
})

test('each in-memory database is separate', async () => {
  const servers = [openSqlite(':memory:', { serves: true }), openSqlite(':memory:', { serves: true })]
  for (const server of servers) await server.close()
})
