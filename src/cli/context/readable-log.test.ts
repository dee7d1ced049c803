import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { createLog, type Log } from '../../platform/log.ts'
import { createReadableLog, type ReadableLog } from './readable-log.ts'

function said(write: (log: Log, readable: ReadableLog) => void): string {
  let text = ''
  const readable = createReadableLog({ write: (more) => (text += more) })
  write(createLog('debug', readable), readable)
  return stripVTControlCharacters(text).replaceAll(/^\d\d:\d\d:\d\d {2}/gm, '')
}

describe('a line of the log as text', () => {
  test('has the level, the event, the message, and then the other fields', () => {
    const text = said((log) =>
      log.warn({ event: 'limit.reached', client: 'till', tries: 3, said: 'two words' }, 'too many'),
    )
    assert.equal(text, 'warn   limit.reached  too many  client=till  tries=3  said="two words"\n')
  })

  test('leaves out what an audit event says twice', () => {
    const at = '2026-01-01T00:00:00.000Z'
    assert.equal(
      said((log) => log.info({ audit: true, event: 'user.added', at, user: 'u1' })),
      'info   user.added  user=u1\n',
    )
  })

  test('shows the stack of an error', () => {
    const [first, ...stack] = said((log) => log.error({ error: new Error('broken') }, 'a request failed')).split('\n')
    assert.equal(first, 'error  a request failed')
    assert.match(stack[0]!, /^ {4}Error: broken$/)
    assert.match(stack[1]!, /^ {8}at .*readable-log\.test\.ts/)
  })

  test('does not let a text from outside write elsewhere on the screen', () => {
    const outside = 'x\u001b[2Jy\u009b2Jz\nforged'
    const error = new Error(outside)
    const text = said((log) => {
      log.info({ event: 'a', address: outside, error }, outside)
    })
    assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
    assert.doesNotMatch(text, /^forged/m)
  })

  test('shows no invisible character of a text from outside, neither in values nor in names of fields', () => {
    for (const invisible of [
      '\u202e',
      '\u2066',
      '\u2069',
      '\u200b',
      '\u00ad',
      '\ufeff',
      '\u{e0041}',
      '\u2028',
      '\u0085',
    ]) {
      const outside = `a${invisible}b`
      const text = said((log) =>
        log.info(
          { event: outside, client: outside, list: [outside], [outside]: 1, error: new Error(outside) },
          outside,
        ),
      )
      assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, JSON.stringify(invisible))
      assert.ok(text.startsWith('info   a b  a b  client="a b"  list=["a b"]  "a b"=1\n'), text)
    }
  })

  test('does not let a text from outside look like another field', () => {
    const outside = 'ana\u202elevel=error'
    assert.equal(
      said((log) => log.info({ event: 'e', user: outside, [outside]: 1 })),
      'info   e  user="ana level=error"  "ana level=error"=1\n',
    )
  })
})

describe('changes by the configuration', () => {
  const removed = (log: Log, ids: string[]) => {
    for (const client of ids) log.info({ audit: true, event: 'client.removed', client, by: 'configuration' })
  }

  test('are one line, when they are told', () => {
    const text = said((log, readable) => {
      removed(log, ['a', 'b'])
      log.info({ audit: true, event: 'user.locked', user: 'ana', by: 'configuration' })
      log.info('between')
      readable.tellChanges()
    })
    assert.equal(text, 'info   between\ninfo   changes by the configuration: client.removed a, b; user.locked ana\n')
  })

  test('are counted if there are many', () => {
    const text = said((log, readable) => {
      removed(
        log,
        Array.from({ length: 20 }, (_, index) => `c${index}`),
      )
      readable.tellChanges()
    })
    assert.match(text, /client\.removed c0, c1, c2, c3, c4, c5, c6, c7 and 12 more\n$/)
  })

  test('that come later are lines of their own; without changes nothing is written', () => {
    const text = said((log, readable) => {
      readable.tellChanges()
      removed(log, ['late'])
    })
    assert.equal(text, 'info   client.removed  client=late  by=configuration\n')
  })
})
