/** Compares names that look alike. */
import { setImmediate as nextTurn } from 'node:timers/promises'

/**
 * In a skeleton (`skeletonOf`), this character replaces each sign: each character that is neither a letter nor a digit.
 * In a name with Latin letters, it also replaces each letter that is neither one of `a` to `z` nor similar to one of
 * them.
 */
const anyLetter = '*'

/**
 * Returns a normal form that is the same for names that look alike. Such names differ only in case, accents and spaces,
 * or in similar letters. Cyrillic and Greek letters that look Latin are mapped to Latin letters, and `1`, `l` and `i`
 * to one letter. Signs (characters that are neither letters nor digits) become `anyLetter`, because `K!osk` looks like
 * `Kiosk`. In a name with Latin letters, a letter that is neither one of `a` to `z` nor similar to one of them also
 * becomes `anyLetter`. Unicode's whole table of confusable characters (UTS 39) is not used, because most of its ten
 * thousand lines are for scripts that must not be mixed in a name.
 */
export function skeletonOf(name: string): string {
  // NFKC turns letters in a circle, in brackets or of another width into plain letters. It would also turn the signs ™
  // and ℠ into letters, which users do not read as a part of the name. So these signs are removed first.
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
 * Replaces letters that are not among `a` to `z` by `anyLetter`. Sequences of more than two Chinese, Japanese or Korean
 * letters are kept, because they are words, and not letters that resemble Latin letters.
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
 * Maximum number of signs in a name: characters that are neither letters nor digits, and letters that are compared like
 * signs. Each sign makes the comparison longer.
 */
export const mostSigns = 16

/** Returns the number of signs in a skeleton: characters that may look like any letter. */
export const signsIn = (skeleton: string): number => skeleton.split(anyLetter).length - 1

/**
 * Returns the form of a name that is stored in an indexed column, so that equal names can be found. Signs (`signsIn`)
 * are left out. Undefined if the name consists of signs only.
 */
export const comparedName = (name: string): string | undefined =>
  skeletonOf(name).replaceAll(anyLetter, '') || undefined

/** The number of comparisons after which other work of this process runs. */
export const comparisonsAtOnce = 500

/**
 * The names of clients, in the form in which names are compared. Skeletons are computed when names are added, and not
 * for each comparison.
 */
export class KnownNames {
  readonly #skeletons = new Map<string, ArrayLike<string>[]>()

  /** Sets the names of a client. An empty list removes the client. */
  set(id: string, names: readonly string[]): void {
    const skeletons = names.flatMap((name) => comparedName(name) ?? [])
    if (skeletons.length === 0) this.#skeletons.delete(id)
    else this.#skeletons.set(id, [...new Set(skeletons)].map(lettersOf))
  }

  /** Resolves to whether a name with this skeleton looks like one of the known names (`idsLike`). */
  async haveOneLike(skeleton: string): Promise<boolean> {
    return !(await this.idsLike(skeleton).next()).done
  }

  /**
   * Yields the ids of the clients that have a name which looks like a name with this skeleton. After every
   * `comparisonsAtOnce` comparisons, other work of this process runs.
   */
  async *idsLike(skeleton: string): AsyncGenerator<string, void> {
    const name = [...skeleton]
    const shortest = name.length - signsIn(skeleton)
    let compared = 0
    for (const [id, known] of this.#all()) {
      compared += 1
      if (compared % comparisonsAtOnce === 0) await nextTurn()
      // Each sign in the skeleton stands for one letter or for no letter.
      const canBeEqual = known.length <= name.length && known.length >= shortest
      if (canBeEqual && looksLike(name, known)) yield id
    }
  }

  *#all(): Generator<[id: string, skeleton: ArrayLike<string>]> {
    for (const [id, skeletons] of this.#skeletons) for (const skeleton of skeletons) yield [id, skeleton]
  }
}

/**
 * Returns the letters of a skeleton. A skeleton without surrogate pairs is returned as it is, because each of its
 * UTF-16 code units is one letter.
 */
const lettersOf = (skeleton: string): ArrayLike<string> => (/[\ud800-\udfff]/.test(skeleton) ? [...skeleton] : skeleton)

/**
 * Returns whether a skeleton is equal to that of a known name if each `anyLetter` stands for one letter or for none. A
 * letter that follows n signs is compared with at most n + 1 letters of the known name. A regular expression is not
 * used, because it could take exponential time.
 */
export function looksLike(name: readonly string[], known: ArrayLike<string>): boolean {
  // All n, in ascending order, for which the part of `name` read so far matches the first n letters of `known`.
  let read = [0]
  for (const letter of name) {
    read = letter === anyLetter ? afterSign(read, known) : afterLetter(letter, read, known)
    if (read.length === 0) return false
  }
  return read.at(-1) === known.length
}

function afterSign(read: readonly number[], known: ArrayLike<string>): number[] {
  const next: number[] = []
  for (const at of read) {
    if (next.at(-1) !== at) next.push(at)
    if (at < known.length) next.push(at + 1)
  }
  return next
}

function afterLetter(letter: string, read: readonly number[], known: ArrayLike<string>): number[] {
  return read.filter((at) => at < known.length && known[at] === letter).map((at) => at + 1)
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
