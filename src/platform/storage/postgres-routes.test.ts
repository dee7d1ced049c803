import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { DatabaseError } from 'pg'
import { readPostgresUrl } from './postgres-address.ts'
import { createRoutes, type Route } from './postgres-routes.ts'
import { isDatabaseUnavailable } from './unavailable.ts'

const labelOf = ({ host, config }: Route) => `${host.host}${config.ssl ? '+tls' : ''}`

/** Routes to servers of which some refuse connections: `failures` contains their errors, by the label of the route. */
function setUp(url: string, failures: Record<string, Error>) {
  const routes = createRoutes(readPostgresUrl(url, {}))
  const tried: string[] = []
  const open = () =>
    routes.open(async (route) => {
      const label = labelOf(route)
      tried.push(label)
      await new Promise((resolve) => setImmediate(resolve))
      const failure = failures[label]
      if (failure) throw failure
      return label
    })
  return { open, tried, failures }
}

const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', syscall: 'connect' })
const silent = new Error('timeout expired')
const withoutTls = new Error('The server does not support SSL connections')
const handshake = new Error('read ECONNRESET')
const wrongPassword = Object.assign(new DatabaseError('password authentication failed', 30, 'error'), { code: '28P01' })
const starting = Object.assign(new DatabaseError('the database system is starting up', 30, 'error'), { code: '57P03' })

test('the files with certificates and keys are read for each connection; a file that is away counts as unchanged', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-routes-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const files = { sslrootcert: 'ca', sslcert: 'cert', sslkey: 'key' }
  const pathOf = (name: string) => join(folder, name)
  const write = (content: string) =>
    Promise.all(Object.values(files).map((name) => writeFile(pathOf(name), `${name} ${content}`)))
  await write('1')
  const parameters = Object.entries(files).map(([parameter, name]) => `${parameter}=${pathOf(name)}`)
  const routes = createRoutes(readPostgresUrl(`postgres://a,b/d?sslmode=verify-full&${parameters.join('&')}`, {}))
  const used = () => {
    const { ca, cert, key } = routes.current.config.ssl as Record<string, string>
    return [ca, cert, key]
  }
  assert.deepEqual(used(), ['ca 1', 'cert 1', 'key 1'])
  await write('2')
  assert.deepEqual(used(), ['ca 2', 'cert 2', 'key 2'])
  for (const name of Object.values(files)) await rm(pathOf(name))
  assert.deepEqual(used(), ['ca 2', 'cert 2', 'key 2'])
  await write('3')
  assert.deepEqual(used(), ['ca 3', 'cert 3', 'key 3'])
})

describe('several routes to a database', () => {
  test('the next connection begins where the last one succeeded', async () => {
    const { open, tried, failures } = setUp('postgres://a,b,c/d?sslmode=disable', { a: silent, b: starting })
    assert.equal(await open(), 'c')
    assert.equal(await open(), 'c')
    assert.deepEqual(tried, ['a', 'b', 'c', 'c'])
    failures.c = refused
    delete failures.a
    assert.equal(await open(), 'a')
  })

  test('if all fail, the error names all hosts, and counts as temporary', async () => {
    const { open, tried } = setUp('postgres://a:1,b/d?sslmode=disable', { a: refused, b: starting })
    await assert.rejects(open(), (error: Error) => {
      assert.equal(error.message, 'a:1: connect ECONNREFUSED; b: the database system is starting up')
      return isDatabaseUnavailable(error)
    })
    assert.deepEqual(tried, ['a', 'b'])
  })

  test('a wrong password is not tried at other hosts, and its error is not wrapped', async () => {
    const { open, tried } = setUp('postgres://a,b/d?sslmode=disable', { a: wrongPassword })
    await assert.rejects(open(), (error) => error === wrongPassword)
    assert.deepEqual(tried, ['a'])
  })

  test('prefer: a server without TLS is used without it, and not asked for it again', async () => {
    const { open, tried } = setUp('postgres://a,b/d?sslmode=prefer', { 'a+tls': withoutTls })
    assert.deepEqual([await open(), await open()], ['a', 'a'])
    assert.deepEqual(tried, ['a+tls', 'a', 'a'])
  })

  test('prefer: if TLS failed by chance, the next connection tries it again', async () => {
    const { open, tried, failures } = setUp('postgres://a/d?sslmode=prefer', { 'a+tls': handshake })
    assert.equal(await open(), 'a')
    delete failures['a+tls']
    assert.equal(await open(), 'a+tls')
    assert.deepEqual(tried, ['a+tls', 'a', 'a+tls'])
  })

  test('prefer: a host that cannot be reached is not tried without TLS', async () => {
    const { open, tried } = setUp('postgres://a,b/d?sslmode=prefer', { 'a+tls': refused, a: refused })
    assert.equal(await open(), 'b+tls')
    assert.deepEqual(tried, ['a+tls', 'b+tls'])
  })

  test('allow: TLS is used if the server refuses connections without it', async () => {
    const { open, tried } = setUp('postgres://a/d?sslmode=allow', { a: wrongPassword })
    assert.deepEqual([await open(), await open()], ['a+tls', 'a+tls'])
    assert.deepEqual(tried, ['a', 'a+tls', 'a+tls'])
  })

  test('connections that fail at the same time try each host at most once each', async () => {
    const { open, tried } = setUp('postgres://a,b,c/d?sslmode=disable', { a: refused, b: refused })
    const all = await Promise.all(Array.from({ length: 10 }, open))
    assert.deepEqual(new Set(all), new Set(['c']))
    assert.equal(tried.length, 30)
  })
})
