/**
 * Splits subject names and Envoy's header. In these texts, a separator that is escaped or within quotes has no meaning.
 */

/** Splits at separators that are neither escaped nor within quotes. */
export function split(text: string, separator: string): string[] {
  const pieces: string[] = []
  let piece = ''
  let quoted = false
  for (let at = 0; at < text.length; at++) {
    const letter = text[at]!
    if (letter === '\\') piece += letter + (text[++at] ?? '')
    else if (letter === separator && !quoted) {
      pieces.push(piece)
      piece = ''
    } else {
      if (letter === '"') quoted = !quoted
      piece += letter
    }
  }
  return [...pieces, piece]
}
