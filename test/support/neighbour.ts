/** A second Doorbell server on the database of a test server. It has the same issuer and clock, and another port. */
import type { TestContext } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell, type Doorbell, type DoorbellOptions } from '../../src/doorbell.ts'
import { createLog } from '../../src/platform/log.ts'
import { openDatabase } from '../../src/platform/storage/open.ts'
import { freePort } from './ports.ts'
import { type Answer, castConfig, comparingClocks, type Stage, type StageOptions } from './stage.ts'
import { closeAfter } from './teardown.ts'

export interface Neighbour {
  doorbell: Doorbell
  /** The URL on which it listens. Its issuer is the URL of the first server. */
  url: string
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  post(path: string, form: Record<string, string>, authorization: string): Promise<Answer>
}

/** @param options the options of the first server */
export async function openNeighbour(
  t: TestContext,
  stage: Stage,
  options: StageOptions = {},
  parts: DoorbellOptions = {},
): Promise<Neighbour> {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const overrides = castConfig(port, stage.database, { ...options, config: { ...options.config, issuer: stage.url } })
  const config = await loadConfig({ env: {}, overrides })
  const log = createLog('debug', { write: (line) => void stage.logLines.push(line) })
  const open = comparingClocks(parts.openDatabase ?? openDatabase)
  const doorbell = await createDoorbell(config, { clock: stage.clock, log, ...parts, openDatabase: open })
  closeAfter(t, () => doorbell.close())
  await doorbell.listen()

  async function send(path: string, request: RequestInit): Promise<Answer> {
    const response = await fetch(url + path, request)
    const text = await response.text()
    return { status: response.status, headers: response.headers, text, body: JSON.parse(text) }
  }
  return {
    doorbell,
    url,
    get: (path, headers = {}) => send(path, { headers }),
    post: (path, form, authorization) =>
      send(path, { method: 'POST', headers: { authorization }, body: new URLSearchParams(form) }),
  }
}
