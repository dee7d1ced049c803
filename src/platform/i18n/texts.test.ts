import assert from 'node:assert/strict'
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { chooseLanguage, type Language, languages, loadTexts, textsFolder } from './texts.ts'

const english = read('en')
const others = languages.filter((language) => language !== 'en')

/** Texts that are the same as in English, with the reason. */
const sameAsEnglish: { key: string; in: readonly Language[]; because: string }[] = [
  { key: 'app.name', in: others, because: 'a name' },
  { key: 'app.passkeys', in: ['de'], because: 'the German word is Passkeys' },
  { key: 'passkeys.title', in: ['de'], because: 'the German word is Passkeys' },
  { key: 'passkeys.name', in: ['de'], because: 'the German word is Name' },
  { key: 'passkeys.unnamed', in: ['de'], because: 'the German word is Passkey' },
]

/** Keys of texts on buttons. Each text must fit on a phone with a width of 360 pixels. */
const buttons = [
  'app.sign_out',
  'app.cancel',
  'sign_in.submit',
  'sign_in.passkey',
  'consent.allow',
  'consent.refuse',
  'waiting.look',
  'approve.approve',
  'approve.deny',
  'approve.not_me',
  'approve.confirm_passkey',
  'approve.add_passkey',
  'outcome.switch',
  'activity.revoke',
  'passkeys.add',
  'passkeys.remove',
  'passkeys.rename',
  'passkeys.save',
  'sessions.end',
  'sessions.end_all',
  'user_code.sign_in',
  'user_code.choose',
  'user_code.change',
  'user_code.remove',
  'user_code.set_one',
  'push.offer',
  'push.off',
  'mail.open',
  'account_notice.open',
  'error.try_again',
  'error.to_requests',
]

test('there is one file for each language', () => {
  assert.deepEqual(readdirSync(textsFolder).sort(), languages.map((language) => `${language}.json`).sort())
})

for (const language of languages) {
  describe(`the texts in ${language}`, () => {
    const texts = read(language)

    test('have the keys of English, in its order', () => {
      assert.deepEqual([...texts.keys()], [...english.keys()])
    })

    test('have the placeholders of English', () => {
      assert.deepEqual(each(texts, placeholders), each(english, placeholders))
    })

    test('are not empty and have no spaces at the ends', () => {
      assert.deepEqual(
        keysOf(texts, (text) => text === '' || text !== text.trim()),
        [],
      )
    })

    test('contain no HTML', () => {
      assert.deepEqual(keysOf(texts, isHtml), [])
    })

    test('include no other text', () => {
      assert.deepEqual(
        keysOf(texts, (text) => text.includes('$t(')),
        [],
      )
    })

    test('are used by their keys', () => {
      const say = loadTexts().in(language)
      const said = new Map([...texts].map(([key, text]) => [key, say(key, itself(text))]))
      assert.deepEqual(said, texts)
    })

    test('fit on buttons', () => {
      assert.deepEqual(
        buttons.filter((key) => width(texts.get(key)!) > 30),
        [],
      )
    })

    test('call the button “This was not me” in a mail what it is called on the page', () => {
      assert.ok(texts.get('mail.not_me')!.includes(texts.get('approve.not_me')!))
    })
  })
}

for (const language of others) {
  test(`only listed texts are the same in ${language} as in English`, () => {
    const allowed = sameAsEnglish.filter((entry) => entry.in.includes(language)).map(({ key }) => key)
    assert.deepEqual(
      keysOf(read(language), (text, key) => text === english.get(key)),
      allowed,
    )
  })
}

test('French has a no-break space before double punctuation and within quotes', () => {
  assert.deepEqual(
    keysOf(read('fr'), (text) => /[^\u00a0][:;?!»]|«[^\u00a0]/.test(text)),
    [],
  )
})

describe('the checks find', () => {
  test('HTML', () => {
    for (const text of ['<b>now</b>', 'a<br>', 'a &amp; b', '&#39;', '&nbsp;']) assert.ok(isHtml(text), text)
    for (const text of ['Bed & breakfast', 'a; b', '„so“']) assert.ok(!isHtml(text), text)
  })

  test('placeholders, in any order', () => {
    assert.deepEqual(placeholders('{{b}} and {{ a }}'), ['a', 'b'])
    assert.deepEqual(placeholders('{a} and a'), [])
  })

  test('Japanese letters are twice as wide', () => assert.equal(width('承認 OK'), 7))
})

describe('keys in the code', () => {
  test('are found where they are literal', () => {
    const code = `
      say('a.one') ; say( "a.two", { client }) ; it.say(\`a.three\`)
      <%= it.say('a.four', { name: it.name }) %> t('a.five')
      <p data-text="a.six"></p> <p data-text-lost='a.seven'></p>
      say(
        'a.eight',
      )
      say(scope ? 'a.a' : 'a.b') say(\`scope.\${name}\`) say('scope.' + name) assert('b.one') essay('b.two')
      <p data-text="<%= it.say('a.nine') %>"></p>`
    assert.deepEqual(literalKeys(code), [
      'a.one',
      'a.two',
      'a.three',
      'a.four',
      'a.five',
      'a.eight',
      'a.nine',
      'a.six',
      'a.seven',
    ])
  })

  test('are all defined', () => {
    const source = fileURLToPath(new URL('../../', import.meta.url))
    const files = globSync('**/*.{ts,eta,js}', { cwd: source }).filter(
      (file) => !file.startsWith('platform/i18n') && !/\.test\.[jt]s$/.test(file),
    )
    assert.ok(files.length > 0)
    const used = files.flatMap((file) =>
      literalKeys(readFileSync(join(source, file), 'utf8')).map((key) => ({ file, key })),
    )
    assert.ok(used.length > 0, 'code uses texts')
    assert.deepEqual(
      used.filter(({ key }) => !english.has(key)),
      [],
    )
  })
})

describe('a value', () => {
  const say = loadTexts().in('en')
  for (const client of ['{{name}}', '{{client}}', '$t(app.name)', '$& $1 $$', '<b>&amp;</b>', 'a.b:c', '']) {
    test(`is inserted unchanged: ${JSON.stringify(client)}`, () => {
      assert.equal(say('approve.title', { client }), `${client} asks for your approval`)
    })
  }
})

test('an unknown key is returned itself', () => {
  assert.equal(loadTexts().in('de')('no.such:key'), 'no.such:key')
})

describe('the language', () => {
  const cases: [string, (string | undefined)[], Language][] = [
    ['no wishes', [], 'en'],
    ['only empty wishes', [undefined, ''], 'en'],
    ['a supported language', ['ja'], 'ja'],
    ['in capitals', ['FR'], 'fr'],
    ["a user's locale before a header", ['fr', 'de, en'], 'fr'],
    ["a user's locale with a region before a header", ['es-MX', 'de;q=1'], 'es'],
    ['no locale', [undefined, 'de, en'], 'de'],
    ['an unsupported locale', ['nl', 'de, en'], 'de'],
    ['ui_locales, separated by spaces', ['nl fr-CA en'], 'fr'],
    ['a region', ['de-CH'], 'de'],
    ['a region and a script', ['ja-Jpan-JP'], 'ja'],
    ['another Portuguese', ['pt-PT'], 'pt-BR'],
    ['just Portuguese', ['pt'], 'pt-BR'],
    ['Portuguese of Brazil', ['pt-BR'], 'pt-BR'],
    ['in lower case', ['pt-br'], 'pt-BR'],
    ['a language that only begins like a supported one', ['des, fra'], 'en'],
    ['the first of equals', ['es, fr'], 'es'],
    ['weights', ['en;q=0.5, de;q=0.9, fr;q=0.7'], 'de'],
    ['no weight is the whole weight', ['en;q=0.9, fr'], 'fr'],
    ['spaces after the semicolon', ['de; q=0.1, fr; q=0.9'], 'fr'],
    ['spaces around the semicolon', ['de  ;  q=0.1,fr;q=0.2'], 'fr'],
    ['tabs', ['de;\tq=0.1,\tfr'], 'fr'],
    ['weightless', ['de;q=0, fr;q=0.1'], 'fr'],
    ['a weight of zero with all digits', ['de;q=0.000'], 'en'],
    ['everything', ['*'], 'en'],
    ['everything else', ['*, ja;q=0.5'], 'ja'],
    ['an invalid weight', ['de;q=0.1.2, fr;q=0.1'], 'fr'],
    ['garbage', [';;;,,,=q;-', '\u0000\uffff', '../../etc/passwd', '__proto__', 'constructor', '-'], 'en'],
    ['garbage before a language', [',;q=1,,-, es'], 'es'],
    ['a very long header', [`de,${'x'.repeat(1_000_000)}`], 'de'],
    ['a language after very much', [`${'nl,'.repeat(100_000)}de`], 'en'],
    ['very many spaces', [`${' '.repeat(1_000_000)};`], 'en'],
    ['unknown', ['nl, sv;q=0.5', 'tlh'], 'en'],
    ['of POSIX', ['de_DE.UTF-8@euro'], 'de'],
    ['of POSIX, without a language', ['C', 'POSIX', 'ja_JP.eucJP'], 'ja'],
    ['of Java', ['pt_PT'], 'pt-BR'],
    ['of Java, with a script', ['fr_FR_#Latn'], 'fr'],
    ['with a trailing hyphen', ['es-'], 'es'],
    ['not a text', [42 as never, { locale: 'de' } as never, 'fr'], 'fr'],
  ]
  for (const [name, wishes, language] of cases) {
    test(`${name}: ${language}`, () => assert.equal(chooseLanguage(...wishes), language))
  }
})

describe('a folder of overrides', () => {
  test('replaces a text and keeps the others', (t) => {
    const overrides = folder(t, { 'de.json': '{ "app": { "name": "Türglocke" } }' })
    const texts = loadTexts(overrides)
    assert.equal(texts.in('de')('app.name'), 'Türglocke')
    assert.equal(texts.in('de')('app.cancel'), 'Abbrechen')
    assert.equal(texts.in('de')('approve.deny'), 'Ablehnen')
    assert.equal(texts.in('en')('app.name'), 'Doorbell')
    assert.equal(loadTexts().in('de')('app.name'), 'Doorbell')
  })

  test('fills in placeholders', (t) => {
    const overrides = folder(t, { 'en.json': '{ "approve": { "title": "Is this you, {{client}}?" } }' })
    assert.equal(loadTexts(overrides).in('en')('approve.title', { client: 'Till' }), 'Is this you, Till?')
  })

  test('may hold other files', (t) => {
    const overrides = folder(t, { 'README.md': 'Our texts' })
    assert.equal(loadTexts(overrides).in('fr')('approve.deny'), 'Refuser')
  })

  for (const content of ['{ "app": ', '', '[]', 'null', '"Doorbell"']) {
    test(`is named when a file is broken: ${JSON.stringify(content)}`, (t) => {
      const overrides = folder(t, { 'fr.json': content })
      assert.throws(
        () => loadTexts(overrides),
        (error: Error) => error.message.startsWith(`the texts in ${join(overrides, 'fr.json')} cannot be read: `),
      )
    })
  }
})

/** Literal keys in code: `say('…')`, `t('…')`, `data-text="…"`, `data-text-…="…"`. */
function literalKeys(code: string): string[] {
  const called = code.matchAll(/(?<![\w$])(?:say|t)\(\s*(['"`])([^'"`$\s]+)\1\s*[,)]/g)
  const marked = code.matchAll(/\bdata-text(?:-[\w-]+)?=(['"])([^'"<$\s]+)\1/g)
  return [...called, ...marked].map((match) => match[2]!)
}

function read(language: Language): Map<string, string> {
  const texts = new Map<string, string>()
  flatten(JSON.parse(readFileSync(join(textsFolder, `${language}.json`), 'utf8')), [])
  return texts

  function flatten(value: unknown, path: string[]) {
    if (typeof value === 'string') texts.set(path.join('.'), value)
    else {
      assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), path.join('.'))
      for (const [name, inner] of Object.entries(value)) flatten(inner, [...path, name])
    }
  }
}

function each<T>(texts: Map<string, string>, look: (text: string) => T): Record<string, T> {
  return Object.fromEntries([...texts].map(([key, text]) => [key, look(text)]))
}

function keysOf(texts: Map<string, string>, isSo: (text: string, key: string) => boolean): string[] {
  return [...texts].filter(([key, text]) => isSo(text, key)).map(([key]) => key)
}

function placeholders(text: string): string[] {
  return [...text.matchAll(/\{\{(.*?)\}\}/g)].map((match) => match[1]!.trim()).sort()
}

/** Values that equal their placeholders: `{ client: '{{client}}' }`. */
function itself(text: string): Record<string, string> {
  return Object.fromEntries(placeholders(text).map((name) => [name, `{{${name}}}`]))
}

function isHtml(text: string): boolean {
  return /[<>]|&#?\w+;/.test(text)
}

/** Width in Latin letters; a Japanese letter is as wide as two. */
function width(text: string): number {
  return [...text].reduce((sum, letter) => sum + (letter >= '\u3000' ? 2 : 1), 0)
}

function folder(t: TestContext, files: Record<string, string>): string {
  const path = mkdtempSync(join(tmpdir(), 'doorbell-texts-'))
  t.after(() => rmSync(path, { recursive: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content)
  return path
}
