/** Compares phone numbers as people write them, and as `tel:` addresses contain them (RFC 3966). */

/** The visual separators of RFC 3966 §5.1.1, and the spaces and slashes that people write. */
const separators = [' ', '-', '.', '(', ')', '/']

/** Other spaces, such as the no-break spaces of contact apps and of French typography. */
const otherSpaces = /\p{Zs}/gu
/** Other hyphens and dashes, such as the no-break hyphen, and the minus sign. */
const otherHyphens = /[\u2010-\u2015\u2212\ufe63\uff0d]/g
/** Characters that cannot be seen. Contact apps set the direction of a number with such marks. */
const invisible = /[\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g

/**
 * Returns a phone number as it is stored: without `tel:` and invisible characters, and with ASCII characters as
 * separators.
 *
 * @example
 * storedNumber('tel:+49\u00a0151\u2011123') // '+49 151-123'
 */
export function storedNumber(text: string): string {
  return text.replace(invisible, '').replace(otherSpaces, ' ').replace(otherHyphens, '-').replace(/^tel:/i, '')
}

/**
 * Returns a phone number without its visual separators and without `tel:`, or undefined if the text is no phone number.
 * A `tel:` address with parameters does not count as a phone number, because an extension belongs to another telephone,
 * and a local number means nothing without its context.
 *
 * @example
 * plainNumber('tel:+49-151-123') // '+49151123'
 */
export function plainNumber(text: string): string | undefined {
  const number = storedNumber(text)
  if (number.length > 65) return undefined
  const plain = separators.reduce((rest, separator) => rest.replaceAll(separator, ''), number)
  return /^\+?\d+$/.test(plain) ? plain : undefined
}

/** Whether both texts are the same phone number. */
export function isSameNumber(one: string | undefined, other: string): boolean {
  const plain = plainNumber(other)
  return one !== undefined && plain !== undefined && plainNumber(one) === plain
}

/**
 * SQL: the value of a column without `tel:` and without visual separators. An index is defined on the same expression
 * (migration 0039).
 */
export function plainNumberIn(column: string): string {
  const number = `case when lower(substr(${column}, 1, 4)) = 'tel:' then substr(${column}, 5) else ${column} end`
  return separators.reduce((sql, separator) => `replace(${sql}, '${separator}', '')`, number)
}
