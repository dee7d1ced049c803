import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadTexts } from '../../platform/i18n/texts.ts'
import type { PendingRequest, User } from '../../user/user.ts'
import type { Notice } from './device-notice.ts'
import { isMailAddress, writeMail } from './mail.ts'

const texts = loadTexts()

function notice({ user = {}, request = {} }: { user?: Partial<User>; request?: Partial<PendingRequest> } = {}): Notice {
  return {
    id: 'n1',
    link: 'https://id.example/approve/r1',
    user: { id: 'u1', ...user },
    request: {
      request_id: 'r1',
      user_id: 'u1',
      client: { client_id: 'till', client_name: 'Till' },
      scope: 'openid',
      created_at: 1_790_000_000,
      expires_at: 1_790_000_600,
      ...request,
    },
  }
}

test('a client name cannot add headers, lines, markup or our own texts', () => {
  const name = 'Till\r\nBcc: x@y.example\u2028$t(mail.why) {{name}} <b>'
  const mail = writeMail(notice({ request: { client: { client_id: 'till', client_name: name } } }), texts)
  assert.equal(mail.subject, 'Till Bcc: x@y.example $t(mail.why) {{name}} <b> asks for your approval')
  assert.ok(mail.html.includes('&lt;b&gt; asks for your approval'))
  assert.ok(!mail.html.includes('<b>'))
})

test('without a binding message or a name, the mail has no placeholder for them', () => {
  const { text, html } = writeMail(notice(), texts)
  assert.match(text, /^Till asks for your approval\.\n\nView the request:\nhttps:\/\/id\.example\/approve\/r1\n/)
  assert.doesNotMatch(text + html, /Compare|Hello|undefined/)
})

describe('the time has the format of the user’s locale and time zone', () => {
  const cases: [string, Partial<User>, RegExp][] = [
    ['no locale', {}, /September 21, 2026 at 2:23.PM UTC/],
    ['a region', { locale: 'en-GB' }, /21 September 2026 at 14:23 UTC/],
    ['a language that is not supported', { locale: 'sw' }, /September 21, 2026 at 2:23.PM UTC/],
    ['an invalid locale', { locale: 'en_!' }, /September 21, 2026 at 2:23.PM UTC/],
    ['a trailing hyphen', { locale: 'de-' }, /21\. September 2026 um 14:23 UTC/],
    ['a locale of POSIX', { locale: 'de_AT.UTF-8@euro' }, /21\. September 2026 um 14:23 UTC/],
    ['the locale C of POSIX', { locale: 'C.UTF-8' }, /September 21, 2026 at 2:23.PM UTC/],
    ['a locale of Java', { locale: 'en_GB' }, /21 September 2026 at 14:23 UTC/],
    ['a locale of Java with a script', { locale: 'fr_CA_#Latn' }, /21 septembre 2026/],
    ['an Accept-Language list', { locale: 'sw;q=0.9,en-GB;q=0.8,en;q=0.7' }, /21 September 2026 at 14:23 UTC/],
    ['no text at all', { locale: 42 as never }, /September 21, 2026 at 2:23.PM UTC/],
    ['a language tag that is too long for one', { locale: 'de-abcdefghijkl' }, /21\. September 2026 um 14:23 UTC/],
    ['a time zone', { locale: 'de', claims: { zoneinfo: 'Europe/Berlin' } }, /21\. September 2026 um 16:23 MESZ/],
    ['an invalid time zone', { locale: 'de', claims: { zoneinfo: 'Moon' } }, /21\. September 2026 um 14:23 UTC/],
  ]
  for (const [name, user, expected] of cases) {
    test(name, () => assert.match(writeMail(notice({ user }), texts).text, expected))
  }
})

test('only a single address is a mail address', () => {
  for (const right of ['a@b.c', 'o’neil+x@b.example', 'ana@localhost', 'ü@bücher.example'])
    assert.ok(isMailAddress(right), right)
  for (const wrong of [undefined, '', 'a', 'a@b@c', 'a@b.c,d@e.f', 'a <a@b.c>', 'a@b.c\r\nX: y', 'a b@c.d']) {
    assert.ok(!isMailAddress(wrong), String(wrong))
  }
})
