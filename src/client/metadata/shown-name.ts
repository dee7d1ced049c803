/**
 * Checks the names of clients that register themselves. Users see these names when they decide requests. So a name must
 * be readable, and must not look like the name of a client that the operator registered.
 */
import { looksLikeALink } from './link-like.ts'
import { type KnownNames, mostSigns, signsIn, skeletonOf } from './similar-names.ts'

export interface NameNeeds {
  /** The names of the operator's clients. The name of another client must not look like one of these. */
  known: Pick<KnownNames, 'haveOneLike'>
  /** Whether names are shown in mails. */
  mailed: boolean
}

/**
 * Maximum length of a name, in UTF-16 code units. Longer names are refused without further checks, because anonymous
 * callers choose the names, and each check takes time.
 */
export const longestName = 100

/** Resolves to what is wrong with a name that a client gives itself, or to undefined if the name is allowed. */
export async function nameProblem(name: string, { known, mailed }: NameNeeds): Promise<string | undefined> {
  if (name.length > longestName) return `client_name must not be longer than ${longestName} characters`
  const skeleton = skeletonOf(name)
  if (/[\p{Default_Ignorable_Code_Point}\u2800]/u.test(name)) return 'client_name must not contain invisible characters'
  if (!/[\p{L}\p{N}]/u.test(name.normalize('NFKC'))) return 'client_name must contain a letter or a number'
  // Some symbols are letters in a frame. Others look like a letter, for instance ◯ and €. A plus sign is common in
  // names, so it is allowed. In comparisons it may stand for any letter.
  if (/\p{S}/u.test(name.replaceAll('+', ''))) return 'client_name must not contain symbols'
  if (scriptsOf(name).has('another')) return 'client_name must be written in a script that is in everyday use'
  if (mixesScripts(name)) return 'client_name must not mix letters of several scripts'
  if (signsIn(skeleton) > mostSigns) return `client_name must not contain more than ${mostSigns} signs`
  if (mailed && looksLikeALink(name)) return 'client_name must not look like a link'
  if (await known.haveOneLike(skeleton)) return 'client_name is the same as that of another client, or looks like it'
  return undefined
}

/**
 * The scripts that UAX 31 recommends. Other scripts are not allowed, because in some of them (Lisu, Cherokee) a whole
 * name could look Latin.
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
