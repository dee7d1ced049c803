/**
 * The names that users give to their passkeys. They are shown only to the same user. The device API checks them, and so do
 * the pages of the consent app, which know the device API only by HTTP.
 */

/** The maximum length of a name, in characters. */
export const longestPasskeyName = 100

/**
 * The regular expression that a name must match as a whole, as the attribute `pattern` of HTML: no character is
 * invisible, controls the layout, or changes the writing direction.
 */
export const passkeyNamePattern = `[^\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}\\u2800]{1,${longestPasskeyName}}`

const passkeyName = new RegExp(`^(?:${passkeyNamePattern})$`, 'v')

/** Returns the name without spaces at its ends, or undefined if it cannot be shown. */
export function readPasskeyName(text: string): string | undefined {
  const name = text.trim()
  return passkeyName.test(name) ? name : undefined
}
