/**
 * Checks the names of clients that register themselves. Users decide by these names. So a name must be readable, and
 * must not look like the name of a client that the operator registered.
 */
import { looksLikeALink } from './link-like.ts'

export interface NameNeeds {
  /** The names of the operator's clients. The name of another client must not look like one of these. */
  known: readonly string[]
  /** Whether names are shown in mails. */
  mailed: boolean
}

/** Returns what is wrong with a name that a client gives itself, or undefined if the name is allowed. */
export function nameProblem(name: string, { known, mailed }: NameNeeds): string | undefined {
  const skeleton = skeletonOf(name)
  if (/[\p{Default_Ignorable_Code_Point}\u2800]/u.test(name)) return 'client_name must not contain invisible characters'
  if (skeleton === '') return 'client_name must contain a letter or a number'
  if (/[\u{1f150}-\u{1f1ff}]/u.test(name)) return 'client_name must not contain symbols that stand for letters'
  if (scriptsOf(name).has('another')) return 'client_name must be written in a script that is in everyday use'
  if (mixesScripts(name)) return 'client_name must not mix letters of several scripts'
  if (known.some((other) => skeletonOf(other) === skeleton))
    return 'client_name is the same as that of another client, or looks like it'
  if (mailed && looksLikeALink(name)) return 'client_name must not look like a link'
  return undefined
}

/**
 * Returns a normal form that is the same for names that look alike. Such names differ only in case, accents, spaces and
 * symbols, or in similar letters. Cyrillic and Greek letters that look Latin are mapped to Latin letters, and `1`, `l` and
 * `i` to one letter. Unicode's whole table of confusable characters (UTS 39) is not used: it has ten thousand lines, most
 * of them for scripts that must not be mixed in a name.
 */
export function skeletonOf(name: string): string {
  // Symbols are removed first, because normalisation turns some of them into letters, for instance ™.
  const plain = name.replace(noLetters, '').normalize('NFKC').toLowerCase().normalize('NFKD')
  const letters = plain.replace(/\p{M}/gu, '').replace(noLetters, '')
  return [...letters]
    .map((letter) => lookAlikes.get(letter) ?? letter)
    .join('')
    .replaceAll('rn', 'm')
    .replaceAll('vv', 'w')
}

const noLetters = /[^\p{L}\p{N}\p{M}]/gu

const lookAlikes = new Map(
  Object.entries({
    a: 'аαɑᴀ',
    b: 'ьвβƀʙ',
    c: 'сϲᴄ',
    d: 'ԁđᴅ',
    e: 'еєεᴇ',
    f: 'ꜰ',
    g: 'ɡɢ',
    h: 'һнηħʜ',
    i: '1lіιıӏǀłɩɪʟ',
    j: 'јϳᴊ',
    k: 'кκĸᴋ',
    m: 'мμᴍ',
    n: 'пνɴ',
    o: '0оοσøᴏᴑ',
    p: 'рρᴘ',
    q: 'ԛ',
    s: 'ѕꜱ',
    t: 'тτŧᴛ',
    u: 'υսᴜʋꭎꭒ',
    v: 'ѵᴠ',
    w: 'ԝωшᴡɯ',
    x: 'хχ',
    y: 'уүγʏɣ',
    r: 'гꭇꭈʀ',
    z: 'ᴢζ',
  }).flatMap(([latin, alike]) => [...alike].map((letter): [string, string] => [letter, latin])),
)

/**
 * The scripts that UAX 31 recommends. Other scripts are not allowed: in some of them (Lisu, Cherokee), a whole name
 * could look Latin.
 */
const scripts: [string, RegExp][] = [
  ...['Latin', 'Greek', 'Cyrillic', 'Armenian', 'Hebrew', 'Arabic', 'Thaana', 'Ethiopic', 'Georgian'],
  ...['Devanagari', 'Bengali', 'Gurmukhi', 'Gujarati', 'Oriya', 'Tamil', 'Telugu', 'Kannada', 'Malayalam', 'Sinhala'],
  ...['Thai', 'Lao', 'Tibetan', 'Myanmar', 'Khmer', 'Han', 'Hiragana', 'Katakana', 'Hangul', 'Bopomofo'],
].map((script) => [script, new RegExp(`\\p{Script=${script}}`, 'u')])

/** Scripts that may be mixed with each other and with Latin: "highly restrictive" in UTS 39 §5.2. */
const together = [
  ['Latin', 'Han', 'Hiragana', 'Katakana'],
  ['Latin', 'Han', 'Hangul'],
  ['Latin', 'Han', 'Bopomofo'],
]

function scriptsOf(name: string): Set<string> {
  const letters = name.normalize('NFKC').match(/\p{L}/gu) ?? []
  return new Set(letters.filter((letter) => !/\p{Script=Common}/u.test(letter)).map(scriptOf))
}

function mixesScripts(name: string): boolean {
  const used = scriptsOf(name)
  return used.size > 1 && !together.some((group) => [...used].every((script) => group.includes(script)))
}

function scriptOf(letter: string): string {
  return scripts.find(([, pattern]) => pattern.test(letter))?.[0] ?? 'another'
}
