import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { OAuthError } from '../oauth-error.ts'
import { allOf, readForm, readJsonFields } from './form.ts'

const formType = 'application/x-www-form-urlencoded'
const form = (body: string | Buffer, type: string | undefined = formType) => readForm(type, Buffer.from(body))
const json = (body: string | Buffer, type = 'application/json') => readJsonFields(type, Buffer.from(body))
const invalid = (error: unknown) => error instanceof OAuthError && error.code === 'invalid_request'

describe('readForm', () => {
  test('reads names and values', () => {
    assert.deepEqual(
      [...form('a=1&b=x%20y+z&c=%C3%A9&d=é&e==&f=%2B')],
      [
        ['a', '1'],
        ['b', 'x y z'],
        ['c', 'é'],
        ['d', 'é'],
        ['e', '='],
        ['f', '+'],
      ],
    )
  })

  test('an empty value counts as absent', () => {
    assert.deepEqual([...form('a=&b&&c=1&')], [['c', '1']])
    assert.equal(form('').size, 0)
  })

  test('a name is never special', () => {
    const read = form('__proto__=x&constructor=y')
    assert.equal(read.get('__proto__'), 'x')
    assert.equal(read.get('constructor'), 'y')
    assert.equal(read.get('toString'), undefined)
  })

  test('accepts the content type in any case, and an explicit UTF-8', () => {
    for (const type of [
      'Application/X-WWW-Form-Urlencoded',
      `${formType};charset=UTF-8`,
      `${formType} ; charset="utf-8"`,
      `${formType}; other=x`,
    ])
      assert.equal(form('a=1', type).get('a'), '1', type)
  })

  test('refuses other content types', () => {
    assert.throws(() => readForm(undefined, Buffer.from('a=1')), invalid)
    for (const type of ['', 'text/plain', 'application/json', `${formType}x`, `${formType};charset=utf-16`])
      assert.throws(() => form('a=1', type), invalid, type)
  })

  test('accepts a character set that extends ASCII, if all characters are ASCII', () => {
    for (const charset of ['ISO-8859-1', '"iso-8859-1"', 'US-ASCII'])
      for (const [body, value] of [
        ['a=%C3%A4', undefined],
        ['a=%e4', undefined],
        ['a=ä', undefined],
        ['%e4=1', undefined],
        ['a=%7e%2B%2589', '~+%89'],
        ['a=1', '1'],
      ] as const) {
        const type = `${formType}; charset=${charset}`
        if (value === undefined) assert.throws(() => form(body, type), invalid, `${charset} ${body}`)
        else assert.equal(form(body, type).get('a'), value, charset)
      }
    for (const charset of ['utf-16', 'ebcdic-us', 'utf-8;charset=iso-8859-1', ''])
      assert.throws(() => form('a=1', `${formType}; charset=${charset}`), invalid, charset)
  })

  test('refuses invalid encodings', () => {
    for (const body of ['a=%', 'a=%4', 'a=%zz', '%=1', 'a=%ff', 'a=%C3', 'a=%ED%A0%80', 'a=%C0%80', 'a=%00', 'a\0=1'])
      assert.throws(() => form(body), invalid, body)
    assert.throws(() => form(Buffer.from([0x61, 0x3d, 0xff])), invalid)
  })

  test('resource alone may be repeated, and then has all its values (RFC 8707 §2)', () => {
    const read = form('resource=a&x=1&resource=&resource=b%20c')
    assert.deepEqual(allOf(read, 'resource'), ['a', 'b c'])
    assert.deepEqual(allOf(read, 'other'), [])
    assert.deepEqual(allOf(form('resource=&resource='), 'resource'), [])
  })

  test('refuses a repeated parameter, even if one of them is empty', () => {
    for (const body of ['a=1&a=2', 'a=1&a=1', 'a=&a=1', 'a=1&%61=2', 'a&a'])
      assert.throws(() => form(body), invalid, body)
  })

  test('refuses more than 100 parameters', () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => `p${index}=1`).join('&')
    assert.equal(form(many(100)).size, 100)
    assert.throws(() => form(many(101)), invalid)
  })

  test('hints do not repeat the input', () => {
    for (const body of ['secretname=1&secretname=2', 'secretname=%zz', 'secretname=%00'])
      assert.throws(
        () => form(body),
        (error) => invalid(error) && !String(error).includes('secret'),
      )
  })

  test('any input results in a form or an OAuthError', () => {
    const pieces = fc.array(
      fc.constantFrom('a', 'b', '=', '&', '+', '%', '%41', '%C3', '%A9', '%00', 'é', '\0', '__proto__'),
    )
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      pieces.map((list) => Buffer.from(list.join(''))),
    )
    const type = fc.oneof(fc.constant(formType), fc.constant('application/json'), fc.string())
    fc.assert(fc.property(type, body, (type, body) => neverSurprises(() => readForm(type, body))))
    fc.assert(fc.property(type, body, (type, body) => neverSurprises(() => readJsonFields(type, body))))
  })

  test('reads back what URLSearchParams writes', () => {
    const text = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .filter((text) => !text.includes('\0') && text.isWellFormed())
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(text, text), { selector: ([name]) => name, maxLength: 20 }), (pairs) => {
        assert.deepEqual([...form(new URLSearchParams(pairs).toString())], pairs)
      }),
    )
  })
})

describe('readJsonFields', () => {
  test('reads strings, numbers and booleans; null and empty count as absent', () => {
    const read = json('{"a":"x","b":1.5,"c":true,"d":null,"e":"","__proto__":"p"}', 'application/json; charset=utf-8')
    assert.deepEqual(
      [...read],
      [
        ['a', 'x'],
        ['b', '1.5'],
        ['c', 'true'],
        ['__proto__', 'p'],
      ],
    )
  })

  test('reads a form too', () => {
    assert.equal(json('a=1', formType).get('a'), '1')
  })

  test('refuses everything else', () => {
    for (const body of [
      '',
      '{',
      '[]',
      'null',
      '1',
      '"x"',
      '{"a":[]}',
      '{"a":{}}',
      '{"a":1e999}',
      '{"a":"\\u0000"}',
      '{"a":"\\ud800"}',
      '{"\\ud800":"a"}',
      '\ufeff{}',
    ])
      assert.throws(() => json(body), invalid, body)
    assert.throws(() => json('{}', 'application/json;charset=latin1'), invalid)
    assert.throws(() => json('{}', 'text/plain'), invalid)
    assert.throws(() => json(Buffer.from([0x22, 0xff, 0x22])), invalid)
  })

  test('any JSON results in a form or an OAuthError', () => {
    fc.assert(fc.property(fc.json(), (text) => neverSurprises(() => json(text))))
  })
})

function neverSurprises(read: () => ReadonlyMap<string, string>) {
  try {
    for (const [name, value] of read()) {
      assert.ok(value !== '')
      assert.ok(!`${name}${value}`.includes('\0'))
    }
  } catch (error) {
    if (!(error instanceof OAuthError)) throw error
    assert.equal(error.code, 'invalid_request')
  }
}
