/** `doorbell doctor`: the channels that notify users. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { openMailServer } from '../support/mail-server.ts'
import { freePort } from '../support/ports.ts'
import { cleanAfterSuite, openTerminal } from './terminal.ts'

interface Finding {
  about: string
  state: string
  says: string
  advice?: string
}

describe('doctor checks the channels', () => {
  const suite = cleanAfterSuite()

  async function findings(settings: object): Promise<Finding[]> {
    const terminal = await openTerminal(suite, { DOORBELL_SECRET: 's'.repeat(43) })
    const users = [{ username: 'ana', email: 'ana@example.com' }, { username: 'ben' }]
    const config = { issuer: 'https://id.example.com', notifications: { timeout: 1 }, users, ...settings }
    await writeFile(join(terminal.cwd, 'doorbell.config.json'), JSON.stringify(config))
    await terminal.run(['migrate'])
    const answer = (await terminal.json(['doctor'])) as { findings: Finding[] }
    return answer.findings
  }

  test('a mail server that accepts mail: ok; a user without a mail address: a warning', async (t) => {
    const server = await openMailServer(t)
    const found = await findings({ email: { smtp: server.url, from: 'Doorbell <no-reply@example.com>' } })
    assert.equal(found.find(({ about }) => about === 'mail')?.state, 'ok')
    const lost = found.find(({ says }) => says.includes('ben'))
    assert.ok(lost, 'ben is named')
    assert.notEqual(lost.state, 'ok')
    assert.ok(!lost.says.includes('ana'))
  })

  test('an unreachable mail server: failed, with advice', async () => {
    const smtp = `smtp://me:hush-hush@127.0.0.1:${await freePort()}`
    const found = await findings({ email: { smtp, from: 'no-reply@example.com' } })
    const mail = found.find(({ about }) => about === 'mail')
    assert.equal(mail?.state, 'fail')
    assert.match(mail.advice ?? '', /email\.smtp/)
    assert.doesNotMatch(JSON.stringify(found), /hush-hush/)
  })

  test('no channel: a warning with the consequence', async () => {
    const found = await findings({})
    const channels = found.find(({ about }) => about === 'channels')
    assert.equal(channels?.state, 'warn')
    assert.match(channels.advice ?? '', /authinfo/)
  })
})
