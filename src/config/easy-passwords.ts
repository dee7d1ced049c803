/**
 * Recognises passwords that attackers try first: common words, and characters in a well-known order. Also finds both
 * inside a longer text.
 */
import { readFileSync } from 'node:fs'

/** Words that are among the most common passwords, alone or with numbers and signs around them. */
const common = new Set<string>(
  JSON.parse(readFileSync(new URL('./common-passwords.json', import.meta.url), 'utf8')) as string[],
)

/** Digits and signs that often replace a letter, each with this letter. */
const replaced: Readonly<Record<string, string>> = {
  0: 'o',
  1: 'i',
  3: 'e',
  4: 'a',
  5: 's',
  7: 't',
  '@': 'a',
  $: 's',
  '!': 'i',
}

/**
 * Whether a password is a common word, possibly with digits in place of letters, or with numbers and signs around it.
 * Upper and lower case count as the same.
 *
 * @example
 * isCommonPassword('P4ssw0rd-2026!') // true
 */
export function isCommonPassword(password: string): boolean {
  const plain = password.normalize('NFKC').toLowerCase()
  const words = [plain, withoutEnds(plain), withLetters(withoutEnds(plain)), withoutEnds(withLetters(plain))]
  // A common word makes a password weak only if it is at least half as long as the password.
  return words.some((word) => common.has(word) && word.length * 2 >= plain.length)
}

const withLetters = (text: string) => text.replace(/[013457@$!]/g, (character) => replaced[character]!)
const withoutEnds = (text: string) => text.replace(/^[^\p{L}]+|[^\p{L}]+$/gu, '')

/** Known orders of characters, such as the alphabet, forwards and backwards. */
export const knownOrders: readonly string[] = [
  ...['01234567890', 'abcdefghijklmnopqrstuvwxyz', 'абвгдежзийклмнопрстуфхцчшщъыьэюя'],
  // Rows of keyboards: English, German, French and Russian.
  ...['qwertyuiop[]', 'asdfghjkl;', 'zxcvbnm,./', 'qwertzuiopü', 'asdfghjklöä', 'yxcvbnm,.-'],
  ...['azertyuiop', 'qsdfghjklm', 'wxcvbn,;:', 'йцукенгшщзхъ', 'фывапролджэ', 'ячсмитьбю'],
  ...['!@#$%^&*()', '!"§$%&/()=', '`1234567890-='],
  // Columns of keyboards.
  ...['1qaz', '2wsx', '3edc', '4rfv', '5tgb', '6yhn', '7ujm', '8ik,', '9ol.', '1qay', '6zhn', '7410', '8520', '963.'],
].flatMap((order) => [order, [...order].reverse().join('')])

/** The minimum length of a sequence, in characters. Fewer characters may be in a known order by chance. */
const shortestSequence = 3
/** A password that consists of at most this many sequences and single characters is easy. */
const mostPieces = 3
/** The longest repeated block that makes a password easy, in characters. */
const longestBlock = 7

/**
 * Whether a password consists of one repeated block, or of at most three pieces. A piece is a single character, one
 * repeated character, or characters in a known order.
 *
 * @example
 * isEasySequence('qwer1234') // true
 * isEasySequence('abcabcab') // true
 */
export function isEasySequence(password: string): boolean {
  const characters = [...password.normalize('NFKC').toLowerCase()]
  return repeatsABlock(characters) || piecesOf(characters) <= mostPieces
}

function repeatsABlock(characters: readonly string[]): boolean {
  for (let length = 1; length <= Math.min(longestBlock, characters.length / 2); length++) {
    if (characters.every((character, index) => index < length || character === characters[index - length])) return true
  }
  return false
}

/**
 * Returns the number of pieces (see `isEasySequence`). At each position, the longest possible piece is taken. Stops
 * counting above `mostPieces`.
 */
function piecesOf(characters: readonly string[]): number {
  let pieces = 0
  for (let index = 0; index < characters.length && pieces <= mostPieces; pieces++) {
    const rest = characters.slice(index).join('')
    const longest = Math.max(...knownOrders.map((order) => commonStart(order, rest)), repeatedStart(rest))
    index += longest >= shortestSequence ? longest : 1
  }
  return pieces
}

/** Returns how many characters at the start of `text` follow each other in `order`. */
function commonStart(order: string, text: string): number {
  const from = order.indexOf(text[0]!)
  let length = 0
  while (from >= 0 && length < text.length && order[from + length] === text[length]) length++
  return length
}

function repeatedStart(text: string): number {
  let length = 1
  while (length < text.length && text[length] === text[0]) length++
  return length
}

/**
 * The least length of a word or sequence that is searched inside a text, in characters. The probability that 43 random
 * base64url characters contain such a word or sequence is below 1 in 10⁷.
 */
const shortestRun = 8

const easyRuns = [
  ...[...common].filter((word) => word.length >= shortestRun && /^\p{L}+$/u.test(word)),
  ...knownOrders.flatMap((order) => windowsOf(order, shortestRun)),
]

/**
 * Whether a text contains a common word of at least 8 letters, or 8 characters in a known order. Upper and lower case
 * count as the same.
 *
 * @example
 * containsEasyRun('My-Doorbell-2026') // true
 */
export function containsEasyRun(text: string): boolean {
  const plain = text.toLowerCase()
  return easyRuns.some((run) => plain.includes(run))
}

function windowsOf(order: string, length: number): string[] {
  return Array.from(order, (_, start) => order.slice(start, start + length)).filter((run) => run.length === length)
}
