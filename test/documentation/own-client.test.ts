/** The examples of docs/start/own-client.md run as they are written there, on both engines. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { describe, type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { newSecret } from '../../src/platform/crypto.ts'
import { pollClient } from '../support/assertions.ts'
import { type Engine, engines } from '../support/engines.ts'
import { openStage, type Stage } from '../support/stage.ts'
import { closeAfter } from '../support/teardown.ts'
import { until } from '../support/until.ts'
import { type Example, examplesIn } from './markdown.ts'

const page = examplesIn('docs/start/own-client.md')
const secret = newSecret()

for (const engine of engines) {
  describe(`a client of one's own, on ${engine.name}`, () => {
    test('with curl: the request, a poll before the decision, and one after it', async (t) => {
      const stage = await opened(t, engine)
      const acknowledged = await typed(stage, marked('request'))
      const [shown] = page.filter(({ language }) => language === 'json')
      assert.deepEqual(Object.keys(acknowledged), Object.keys(JSON.parse(shown!.code)))
      const AUTH_REQ_ID = String(acknowledged.auth_req_id)

      assert.equal((await typed(stage, marked('poll'), { AUTH_REQ_ID })).error, 'authorization_pending')
      const [waiting] = await stage.doorbell.requests.list('dora')
      assert.equal(waiting?.bindingMessage, 'Coffee 4.20')
      assert.equal((await stage.doorbell.requests.approve(waiting.requestId, 'dora')).kind, 'settled')
      stage.clock.advance(10_000)
      const tokens = await typed(stage, marked('poll'), { AUTH_REQ_ID })
      assert.deepEqual([typeof tokens.access_token, typeof tokens.id_token], ['string', 'string'])
    })

    test('with openid-client: the request, the tokens, and who has approved', async (t) => {
      const stage = await opened(t, engine)
      const example = page.find(({ language }) => language === 'ts')
      // Within the repository, so that openid-client is found.
      const file = `.examples-${newSecret(6)}.mts`
      await writeFile(file, replaced(example!.code, stage))
      closeAfter(t, () => rm(file))
      const env = { ...process.env, TILL_SECRET: secret }
      const client = spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'pipe'] })
      let said = ''
      for (const stream of [client.stdout, client.stderr]) stream.on('data', (chunk) => (said += chunk))
      const ended = new Promise<number | null>((resolve) => client.once('close', resolve))
      closeAfter(t, async () => {
        client.kill('SIGKILL')
        await ended
      })
      const requestId = await Promise.race([arrival(stage), ended.then(() => Promise.reject(new Error(said)))])
      await stage.doorbell.requests.approve(requestId, 'dora')
      assert.deepEqual([await ended, said], [0, 'approved by dora\n'])
    })
  })
}

function opened(t: TestContext, engine: Engine): Promise<Stage> {
  const clients = [pollClient('till', { client_secret: secret })]
  const users = [{ id: 'dora', username: 'dora' }]
  return openStage(t, { engine, cast: false, config: { clients, users, requests: { interval: 1 } } })
}

/** Resolves to the id of the request when it is stored. */
async function arrival(stage: Stage): Promise<string> {
  const waiting = async () => (await stage.doorbell.requests.list('dora'))[0]
  await until(async () => (await waiting()) !== undefined)
  return (await waiting())!.requestId
}

function marked(mark: string): Example {
  const example = page.find(({ language, marks }) => language === 'sh' && marks.includes(mark))
  assert.ok(example, mark)
  return example
}

function replaced(code: string, { url }: Stage): string {
  assert.ok(code.includes('http://localhost:4000'))
  return code.replaceAll('http://localhost:4000', url)
}

/** Types an example in a shell, and resolves to the JSON that it prints. */
async function typed(stage: Stage, { code }: Example, more: Record<string, string> = {}) {
  const env = { ...process.env, TILL_SECRET: secret, ...more }
  const { stdout } = await promisify(execFile)('sh', ['-c', replaced(code, stage)], { env })
  return JSON.parse(stdout) as Record<string, unknown>
}
