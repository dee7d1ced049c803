import assert from 'node:assert/strict'
import { test } from 'node:test'
import { looksLikeALink } from './link-like.ts'
import { longestName, nameProblem } from './shown-name.ts'
import { comparisonsAtOnce, KnownNames, looksLike, mostSigns } from './similar-names.ts'

const known = ['Northbank', 'Zürich Café', 'paypal', 'till-7', 'Modern Wien']
/** The names of a client for each of these names. */
function namesOf(names: string[]): KnownNames {
  const all = new KnownNames()
  for (const name of names) all.set(name, [name])
  return all
}

const about = (name: string, mailed = false) => nameProblem(name, { known: namesOf(known), mailed })

test('a name that looks the same as that of a known client is refused', async () => {
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
  for (const name of alike) assert.match((await about(name)) ?? '', /that of another client|mix letters/, name)
})

test('a name must not mix scripts, except those that are written together', async () => {
  for (const name of ['Nоrthpole', 'Shop Αpple', 'Bаnk', 'Кiоsk shop'])
    assert.match((await about(name)) ?? '', /several scripts/, name)
  for (const name of ['Кофейня', 'Καφενείο', 'カフェ喫茶 Tokyo', '서울 Cafe', 'قهوة', 'Cafe 24', 'Łódź & Søn', 'π']) {
    assert.equal(await about(name), undefined, name)
  }
})

test('signs and letters that may stand for another letter are compared as any letter', async () => {
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
    assert.match((await about(name)) ?? '', /that of another client/, name)
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
    assert.equal(await about(name), undefined, name)
  }
})

test('letters in a circle, in a square or in brackets, and other symbols, are refused; other forms are compared', async () => {
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
      for (const name of [`${sign}orthbank`, `Shop ${sign}`]) assert.match((await about(name)) ?? '', /symbols/, name)
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
    assert.match(
      (await nameProblem(name, { known: namesOf(['Kiosk']), mailed: false })) ?? '',
      /symbols|letter or a number/,
      name,
    )
  }
  for (const first of [0xff21, 0x1d400, 0x1d434, 0x1d468, 0x1d5a0, 0x1d670]) {
    const name = [...'NORTHBANK'].map((letter) => String.fromCodePoint(letter.charCodeAt(0) - 65 + first)).join('')
    assert.match((await about(name)) ?? '', /that of another client/, name)
  }
})

test('a name that imitates a known name is refused, in letters of an unused script or in symbols', async () => {
  for (const name of ['ꓠꓳꓣꓔꓧꓐꓮꓠꓗ', 'ᏢᎪᎩᏢᎪᏞ']) assert.match((await about(name)) ?? '', /everyday use/, name)
  for (const name of ['🅝orthbank', '🅿aypal', '🇳orthbank']) assert.match((await about(name)) ?? '', /symbols/, name)
  for (const name of ['தமிழ் கடை', 'বাংলা', 'ሱቅ', 'ร้านกาแฟ', 'Taxi +']) assert.equal(await about(name), undefined, name)
})

test('a name that cannot be read is refused', async () => {
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
    assert.match((await about(name)) ?? '', /invisible|letter/, JSON.stringify(name))
  }
  for (const name of ['...', '🚕', '—', '\u0301']) assert.match((await about(name)) ?? '', /letter or a number/, name)
})

test('a name that looks like a link is refused if names are shown in mails', async () => {
  for (const name of ['shop.example/pay', 'evil.com', 'www.shop']) {
    assert.equal(await about(name), undefined, name)
    assert.match((await about(name, true)) ?? '', /link/, name)
  }
  for (const name of ['Shop No.7', 'St. Gallen', 'A.B.C. Trading', 'Yahoo!'])
    assert.equal(await about(name, true), undefined, name)
})

test('a name that is too long or has too many signs is not compared at all', async () => {
  let compared = 0
  const counted = { haveOneLike: async () => ++compared < 0 }
  const check = (name: string) => nameProblem(name, { known: counted, mailed: true })
  assert.match((await check(`${'-'.repeat(longestName)}q`)) ?? '', /longer than 100 characters/)
  assert.match((await check(`${'-'.repeat(mostSigns + 1)}q`)) ?? '', /more than 16 signs/)
  assert.match((await check(`${'ŋ'.repeat(mostSigns + 1)}q`)) ?? '', /more than 16 signs/)
  assert.equal(compared, 0)
  assert.equal(await check(`${'-'.repeat(mostSigns)}${'q'.repeat(longestName - mostSigns)}`), undefined)
  assert.equal(compared, 1)
})

test('comparing a name of many signs reads few letters of the known name', () => {
  let read = 0
  const known = new Proxy([...'corner shop number 7 of the northern region'], {
    get(letters, key) {
      if (/^\d+$/.test(String(key))) read += 1
      return Reflect.get(letters, key)
    },
  })
  assert.equal(looksLike([...'*'.repeat(mostSigns), 'q', ...'corner shop'], known), false)
  assert.ok(read <= mostSigns + 1, `${read}`)
  read = 0
  assert.equal(looksLike([...'c*r*e* *h*p*n*m*e* *7*o* *h* *o*'], known), false)
  assert.ok(read <= 32 * (mostSigns + 1), `${read}`)
})

test('other work runs while a name is compared with thousands of names', async () => {
  const known = namesOf(Array.from({ length: 20 * comparisonsAtOnce }, (_, number) => `Corner Shop Number ${number}`))
  let turns = 0
  let isOver = false
  const other = () => {
    turns += 1
    if (!isOver) setImmediate(other)
  }
  setImmediate(other)
  assert.equal(await nameProblem(`${'-'.repeat(mostSigns)}q`, { known, mailed: false }), undefined)
  isOver = true
  assert.ok(turns >= 19, `${turns}`)
  const like = await nameProblem('Corner.Shop.Number.9999', { known, mailed: false })
  assert.match(like ?? '', /that of another client/)
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
