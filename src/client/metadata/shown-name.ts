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
  if (!/[\p{L}\p{N}]/u.test(name.normalize('NFKC'))) return 'client_name must contain a letter or a number'
  // Some symbols are letters in a frame, and others look like a letter, for instance ◯ and €. A plus sign is common in
  // names, and is compared as a sign that may stand for a letter.
  if (/\p{S}/u.test(name.replaceAll('+', ''))) return 'client_name must not contain symbols'
  if (scriptsOf(name).has('another')) return 'client_name must be written in a script that is in everyday use'
  if (mixesScripts(name)) return 'client_name must not mix letters of several scripts'
  if (known.some((other) => looksLike(skeleton, skeletonOf(other).replaceAll(anyLetter, ''))))
    return 'client_name is the same as that of another client, or looks like it'
  if (mailed && looksLikeALink(name)) return 'client_name must not look like a link'
  return undefined
}

/** Stands, in a skeleton, for a sign or a letter that may look like any letter. */
const anyLetter = '*'

/**
 * Returns a normal form that is the same for names that look alike. Such names differ only in case, accents and spaces, or
 * in similar letters. Cyrillic and Greek letters that look Latin are mapped to Latin letters, and `1`, `l` and `i` to one
 * letter. Signs become `anyLetter`, because `K!osk` looks like `Kiosk`. In a name with Latin letters, so do all letters
 * that are neither among `a` to `z` nor similar to one of them. Unicode's whole table of confusable characters (UTS 39) is
 * not used: it has ten thousand lines, most of them for scripts that must not be mixed in a name.
 */
function skeletonOf(name: string): string {
  // NFKC comes first: it turns letters in a circle, in brackets or of another width into plain letters. The signs of trade
  // and service marks are removed before, because NFKC turns them into letters that nobody reads as a part of the name.
  const plain = name
    .replace(/[\u2120\u2122]/g, '')
    .normalize('NFKC')
    .toLowerCase()
    .normalize('NFKD')
  const letters = plain
    .replace(/[\p{M}\s]/gu, '')
    .replace(/[^\p{L}0-9]|\p{Lm}/gu, anyLetter)
    .replace(/./gu, (letter) => lookAlikes.get(letter) ?? letter)
  return (/\p{Script=Latin}/u.test(plain) ? withoutForeignLetters(letters) : letters)
    .replaceAll('rn', 'm')
    .replaceAll('vv', 'w')
}

/**
 * Replaces letters that are not among `a` to `z`. Longer sequences of Chinese, Japanese and Korean letters are kept: they
 * are words, and not letters that resemble Latin ones.
 */
function withoutForeignLetters(letters: string): string {
  return letters
    .replace(
      /[\p{L}--[\p{Script=Latin}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}]]/gv,
      anyLetter,
    )
    .replace(/[\p{Script=Latin}--[a-z]]/gv, anyLetter)
    .replace(/[^*\p{Script=Latin}0-9]+/gu, (found) =>
      [...found].length > 2 ? found : anyLetter.repeat([...found].length),
    )
}

/**
 * Whether a skeleton is equal to that of a known name if each `anyLetter` stands for one letter or for none. Takes
 * `name.length * known.length` steps; a regular expression could take exponential time.
 */
function looksLike(name: string, known: string): boolean {
  if (known === '') return false
  const other = [...known]
  // The numbers of letters of the known name that the part of the name read so far may stand for.
  let read = new Set([0])
  for (const letter of name) {
    const next = new Set<number>()
    for (const at of read) {
      if (letter === anyLetter) next.add(at)
      if (at < other.length && (letter === anyLetter || letter === other[at])) next.add(at + 1)
    }
    read = next
  }
  return read.has(other.length)
}

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
