import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
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

describe('the log hides members with secret names', () => {
  for (const name of secretNames) {
    test(name, () => {
      const text = logged((log) => log.info({ [name]: 'hush-hush', form: { [name]: 'hush-hush' } }))
      assert.ok(!text.includes('hush'), text)
      assert.deepEqual([JSON.parse(text)[name], JSON.parse(text).form[name]], ['[secret]', '[secret]'])
    })
  }

  test('and changes neither its input nor the rest of the line', () => {
    const form = { scope: 'openid', token: 'hush-hush' }
    const line = { event: 'x', token: 'hush-hush', form, at: new Date(0), ids: ['a'], none: null }
    const text = logged((log) => log.info(line, 'said'))
    assert.ok(!text.includes('hush'), text)
    const { level, time, ...said } = JSON.parse(text)
    assert.deepEqual(said, {
      event: 'x',
      token: '[secret]',
      form: { scope: 'openid', token: '[secret]' },
      at: '1970-01-01T00:00:00.000Z',
      ids: ['a'],
      none: null,
      msg: 'said',
    })
    assert.deepEqual([line.token, line.form, form.token], ['hush-hush', form, 'hush-hush'])
  })

  test('also on an error that is logged under another name', () => {
    const cause = Object.assign(new Error('broken'), { token: 'hush-hush', code: 'E1' })
    const text = logged((log) => log.warn({ cause }))
    assert.deepEqual(JSON.parse(text).cause, { code: 'E1', token: '[secret]' })
  })

  test('and keeps of an error its name, message and place, not the properties that libraries add', () => {
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

test('what is logged in the last turn before the process ends is written', () => {
  const program = `
    const { createLog } = await import(${JSON.stringify(import.meta.resolve('./log.ts'))})
    const [log, other] = [createLog('info'), createLog('info')]
    log.info('one')
    setImmediate(() => setImmediate(() => {
      other.info('two')
      log.info('three')
      process.exit(0)
    }))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program])
  const lines = String(stderr).trimEnd().split('\n')
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).msg),
    ['one', 'two', 'three'],
  )
  assert.equal(String(stdout), '')
})
