import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createLog } from './log.ts'

function logged(write: (log: ReturnType<typeof createLog>) => void): string {
  const lines: string[] = []
  write(createLog('debug', { write: (line) => void lines.push(line) }))
  return lines.join('')
}

const secretNames = [
  ...[
    'auth_req_id',
    'authReqId',
    'client_notification_token',
    'notificationToken',
    'client_secret',
    'client_assertion',
  ],
  ...['login_hint', 'login_hint_token', 'id_token_hint', 'user_code', 'access_token', 'refresh_token', 'id_token'],
  ...['token', 'password', 'authorization', 'cookie'],
]

describe('M12: the log hides what is secret by its name (RQ-11, NE-4)', () => {
  for (const name of secretNames) {
    it(name, () => {
      const text = logged((log) => log.info({ [name]: 'hush-hush', form: { [name]: 'hush-hush' } }))
      assert.ok(!text.includes('hush'), text)
      assert.deepEqual([JSON.parse(text)[name], JSON.parse(text).form[name]], ['[secret]', '[secret]'])
    })
  }

  it('and keeps of an error its name, message and place, not what libraries hang on it', () => {
    const error = Object.assign(new TypeError('broken'), { request: { body: 'hush-hush' }, response: 'hush-hush' })
    const text = logged((log) => log.error({ error }))
    assert.ok(!text.includes('hush'), text)
    const said = JSON.parse(text).error
    assert.deepEqual(
      [Object.keys(said).sort(), said.name, said.message],
      [['message', 'name', 'stack'], 'TypeError', 'broken'],
    )
    assert.match(
      logged((log) => log.error({ error: 'a word' })),
      /"message":"a word"/,
    )
  })
})
