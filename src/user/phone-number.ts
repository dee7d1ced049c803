/** Compares phone numbers as people write them, and as `tel:` addresses contain them (RFC 3966). */

/** The visual separators of RFC 3966 §5.1.1, and the spaces and slashes that people write. */
const separators = [' ', '-', '.', '(', ')', '/']

/**
 * Returns a phone number without its visual separators and without `tel:`, or undefined if the text is no phone number. A
 * `tel:` address with parameters is no phone number: an extension is another telephone, and a local number means nothing
 * without its context.
 *
 * @example
 * plainNumber('tel:+49-151-123') // '+49151123'
 */
export function plainNumber(text: string): string | undefined {
  const number = text.replace(/^tel:/i, '')
  if (!/^\+?[\d ()./-]{1,64}$/.test(number) || !/\d/.test(number)) return undefined
  return separators.reduce((plain, separator) => plain.replaceAll(separator, ''), number)
}

/** Whether both texts are the same phone number. */
export function isSameNumber(one: string | undefined, other: string): boolean {
  const plain = plainNumber(other)
  return one !== undefined && plain !== undefined && plainNumber(one) === plain
}

/** SQL: the value of a column without visual separators. An index contains the same expression (migration 0029). */
export function plainNumberIn(column: string): string {
  return separators.reduce((sql, separator) => `replace(${sql}, '${separator}', '')`, column)
}
