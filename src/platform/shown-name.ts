/** Names that users give to their own things, such as passkeys. They are shown to the same user later. */

/** The maximum length of a name, in characters. */
export const longestShownName = 100

/**
 * The regular expression that a name must match as a whole, as the attribute `pattern` of HTML: no character is
 * invisible, controls the layout, or changes the writing direction.
 */
export const shownNamePattern = `[^\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}\\u2800]{1,${longestShownName}}`

const shownName = new RegExp(`^(?:${shownNamePattern})$`, 'v')

/** Returns the name without spaces at its ends, or undefined if it cannot be shown. */
export function readShownName(text: string): string | undefined {
  const name = text.trim()
  return shownName.test(name) ? name : undefined
}
