/** Tests that fail while the machine stands still are run once more, and what fails on a machine that runs has failed. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { until } from '../support/until.ts'

/** A test file that fails as often as said, and waits for the file `goOn` first. */
function failing(times: number): { folder: string; file: string } {
  const folder = mkdtempSync(join(tmpdir(), 'doorbell-standstill-'))
  const file = join(folder, 'fails.test.ts')
  writeFileSync(
    file,
    `import { appendFileSync, existsSync, readFileSync } from 'node:fs'
     import { test } from 'node:test'
     test('fails ${times} times', async () => {
       appendFileSync('${folder}/runs', '.')
       while (!existsSync('${folder}/goOn')) await new Promise((resolve) => setTimeout(resolve, 20))
       if (readFileSync('${folder}/runs', 'utf8').length <= ${times}) throw new Error('failed')
     })`,
  )
  return { folder, file }
}

interface Run {
  child: ChildProcess
  output(): string
}

function run(file: string): Run {
  // Node's runner tells its children that they are part of its run.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(process.execPath, ['test/run.ts', file], { env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  return { child, output: () => output }
}

async function play(times: number, stands: 'still' | 'not still') {
  const { folder, file } = failing(times)
  const { child, output } = run(file)
  await until(() => existsSync(join(folder, 'runs')))
  if (stands === 'still') {
    child.kill('SIGSTOP')
    await setTimeout(7000)
    child.kill('SIGCONT')
  }
  writeFileSync(join(folder, 'goOn'), '')
  const [code] = await once(child, 'exit')
  rmSync(folder, { recursive: true })
  return { code, output: output() }
}

test('a test that fails once, while the machine stands still, is run again and passes', async () => {
  const { code, output } = await play(1, 'still')
  assert.match(output, /The machine stood still\. A timer of one second at [\d:]+ took \d+ s\./)
  assert.match(output, /are run again:\n {2}.*fails\.test\.ts/)
  assert.equal(code, 0, output)
})

test('a test that fails again has failed', async () => {
  const { code, output } = await play(2, 'still')
  assert.match(output, /The machine stood still/)
  assert.equal(code, 1)
})

test('a test that fails on a machine that runs has failed', async () => {
  const { code, output } = await play(1, 'not still')
  assert.doesNotMatch(output, /stood still/)
  assert.equal(code, 1)
})
