import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

const ports = new URL('./ports.ts', import.meta.url).href
/** If two processes each chose this many of 21 900 ports at random, they would have about sixteen ports in common. */
const many = 600

test('a port is given to one test of a run only, whichever process asks for it', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-ports-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const given = (await Promise.all([draw(folder), draw(folder)])).flat()
  assert.equal(given.length, 2 * many)
  assert.equal(new Set(given).size, given.length)
})

async function draw(folder: string): Promise<number[]> {
  const script = `
    const { freePort } = await import(${JSON.stringify(ports)})
    const given = []
    while (given.length < ${many}) given.push(await freePort())
    console.log(JSON.stringify(given))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
    env: { ...process.env, DOORBELL_TEST_PORTS: folder },
  })
  return JSON.parse(stdout) as number[]
}
