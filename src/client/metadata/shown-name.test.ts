import assert from 'node:assert/strict'
import { test } from 'node:test'
import { looksLikeALink } from './link-like.ts'
import { nameProblem } from './shown-name.ts'

const known = ['Northbank', 'Zürich Café', 'paypal', 'till-7', 'Modern Wien']
const about = (name: string, mailed = false) => nameProblem(name, { known, mailed })

test('a name that looks the same as that of a known client is refused', () => {
  const alike = [
    'Northbank',
    'NORTHBANK',
    ' north bank ',
    'North-Bank!',
    'North.bank.',
    'North+bank',
    'Ｎｏｒｔｈｂａｎｋ',
    'N0rthbank',
    'Nörthbánk',
    '𝐍𝐨𝐫𝐭𝐡𝐛𝐚𝐧𝐤',
    'Zurich Cafe',
    'раураӏ',
    'PayPaI',
    'paypa1',
    'TILL 7',
    'Till_7',
    'Modem Wien',
    'Nᴏrthbank',
    'Nørthbank',
    'Northbanĸ',
    'Noꭇthbank',
    'ɴᴏʀᴛʜʙᴀɴᴋ',
  ]
  for (const name of alike) assert.match(about(name) ?? '', /that of another client|mix letters/, name)
})

test('a name must not mix scripts, except those that are written together', () => {
  for (const name of ['Nоrthpole', 'Shop Αpple', 'Bаnk', 'Кiоsk shop'])
    assert.match(about(name) ?? '', /several scripts/, name)
  for (const name of ['Кофейня', 'Καφενείο', 'カフェ喫茶 Tokyo', '서울 Cafe', 'قهوة', 'Cafe 24', 'Łódź & Søn', 'π']) {
    assert.equal(about(name), undefined, name)
  }
})

test('signs and letters that may stand for another letter are compared as any letter', () => {
  const alike = [
    ...[
      'N()rthbank',
      'Northb@nk',
      'N*rthbank',
      '(N)orthbank',
      'Nort_h_bank',
      'N%rthbank',
      'T!ll-7',
      'T¡ll 7',
      'N०rthbank',
    ],
    ...[
      'Nロrthbank',
      'N〇rthbank',
      'Nㅇrthbank',
      'Nɵrthbank',
      'Northbanꝁ',
      'Noʳthbank',
      'Northḅ̃ank',
      'N\u20ddorthbank',
    ],
  ]
  for (const name of alike) {
    assert.match(about(name) ?? '', /that of another client/, name)
  }
  for (const name of [
    'A-17',
    'Nord/Bank',
    'N. Bank',
    'Aカフェ喫茶',
    'Þórður & Ægir',
    'Q.R.S.T.U.V. 7',
    'Disney+',
    'Paying',
    'Shop #7',
  ]) {
    assert.equal(about(name), undefined, name)
  }
  // Would take exponential time if it were tried one by one.
  assert.equal(nameProblem(`${'a.'.repeat(500)}b`, { known: ['a'.repeat(1000)], mailed: false }), undefined)
})

test('letters in a circle, in a square or in brackets, and other symbols, are refused; other forms are compared', () => {
  const ranges = [
    [0x249c, 0x24e9],
    [0x1f110, 0x1f149],
    [0x1f150, 0x1f1ff],
    [0x1f000, 0x1faff],
    [0x2190, 0x2bff],
  ]
  let seen = 0
  for (const [first, last] of ranges as [number, number][]) {
    for (let code = first; code <= last; code++) {
      const sign = String.fromCodePoint(code)
      if (!/\p{S}/u.test(sign) || sign === '\u2800') continue
      seen++
      for (const name of [`${sign}orthbank`, `Shop ${sign}`]) assert.match(about(name) ?? '', /symbols/, name)
    }
  }
  assert.ok(seen > 3000, `${seen}`)
  for (const name of [
    'Ⓚiosk',
    'Kios⒦',
    '🄚iosk',
    '🄺iosk',
    'Ki◯sk',
    'Kio$k',
    'Ki¤sk',
    'K|osk',
    '€uro',
    'Kiosk™',
    'K¨iosk',
    '℮',
  ]) {
    assert.match(nameProblem(name, { known: ['Kiosk'], mailed: false }) ?? '', /symbols|letter or a number/, name)
  }
  for (const first of [0xff21, 0x1d400, 0x1d434, 0x1d468, 0x1d5a0, 0x1d670]) {
    const name = [...'NORTHBANK'].map((letter) => String.fromCodePoint(letter.charCodeAt(0) - 65 + first)).join('')
    assert.match(about(name) ?? '', /that of another client/, name)
  }
})

test('a name that only resembles letters of a known one is refused: in an unused script, or in symbols', () => {
  for (const name of ['ꓠꓳꓣꓔꓧꓐꓮꓠꓗ', 'ᏢᎪᎩᏢᎪᏞ']) assert.match(about(name) ?? '', /everyday use/, name)
  for (const name of ['🅝orthbank', '🅿aypal', '🇳orthbank']) assert.match(about(name) ?? '', /symbols/, name)
  for (const name of ['தமிழ் கடை', 'বাংলা', 'ሱቅ', 'ร้านกาแฟ', 'Taxi +']) assert.equal(about(name), undefined, name)
})

test('a name that cannot be read is refused', () => {
  for (const name of [
    '\u3164',
    'a\u3164',
    '\u2800',
    'Shop\u034f',
    'Shop\ufe0f',
    '\u115f\u1160',
    'a\u200b',
    'a\u00ad',
  ]) {
    assert.match(about(name) ?? '', /invisible|letter/, JSON.stringify(name))
  }
  for (const name of ['...', '🚕', '—', '\u0301']) assert.match(about(name) ?? '', /letter or a number/, name)
})

test('a name that looks like a link is refused if names are shown in mails', () => {
  for (const name of ['shop.example/pay', 'evil.com', 'www.shop']) {
    assert.equal(about(name), undefined, name)
    assert.match(about(name, true) ?? '', /link/, name)
  }
  for (const name of ['Shop No.7', 'St. Gallen', 'A.B.C. Trading', 'Yahoo!'])
    assert.equal(about(name, true), undefined, name)
})

test('a text that mail programs turn into a link looks like a link', () => {
  const links = [
    'https://evil.example',
    'HTTP://X',
    'see www.evil',
    'evil.com',
    'Pay at evil.com now',
    'evil.com.',
    '(evil.com)',
    'login.bank.example/confirm',
    'evil.example:8443/x',
    'a@evil.org',
    'mailto:a@b',
    'javascript:alert(1)',
    'xn--80ak6aa92e.xn--p1ai',
    'пример.рф',
    'ｅｖｉｌ．ｃｏｍ',
    'evil。com',
    'bit.ly/x',
    'evil.zip',
    'evil.de',
    'evil.co.uk',
    '192.0.2.7/x',
    'tg://resolve',
    'Confirm at my.bank-login.life',
    'my.bank-login.life',
    'evil.technology!',
    'evil.museum?',
    'secure.login.bank.versicherung.',
    'evil.рус',
    'evil.भारत',
    'магазин.москва',
    'evil.한국',
    'evil。グーグル',
    'evil｡中国',
    'evil.ｌｉｆｅ',
    'evil\u2024life',
    'evil.\ufe0flife',
    'evil\u0301q\u0301.life',
    'evil.l\u200bife',
    '❤.life',
    '163.com',
    '12.50.life',
    'a_b.life',
    'x.co',
    'evil.life:443',
    'evil.life)',
    '"evil.life"',
    'evil.life,danke',
    'evil.life/…',
    'evil.xn--p1ai',
    'Node.js',
    'Rechnung.pdf',
    'St.Gallen',
    'Zahlung an Hr.Meier',
  ]
  for (const text of links) assert.equal(looksLikeALink(text), true, text)
})

test('prices, versions, dates and sentences do not look like links', () => {
  const plain = [
    'Coffee 4.20',
    'Fr. 12.50',
    'Fr.12.50',
    'v1.2',
    'v1.2.3-rc.4',
    '1.2.3.4',
    '24.12.2026',
    '24.12./25.12.',
    '1.234,56 €',
    'No.4711',
    'Nr. A/17',
    'e.g. tea, z.B. Tee',
    'St. Gallen',
    'Tea. Then coffee.',
    'Wait...what',
    'Zahlung an Hr. Meier',
    '12:30/14:00',
    'and/or',
    'Pay 12.50 EUR',
    'Pay 12.50EUR',
    'Zahle 1.250,00€ an Café Zürich, Konto 12.345.678-9',
    'i.d.R. um 3 p.m., d.h. 15.00 Uhr',
    '24.12.2026 um 12.30h',
    'Table 7.B',
    'Confirm W4SCT.',
    'Оплата 12.50 руб. за кофе',
    '支払い。コーヒー',
    'W4SCT',
    '1234',
    '確認。お茶',
    'Dr. No',
    'A-17.B-3',
  ]
  for (const text of plain) assert.equal(looksLikeALink(text), false, text)
})
