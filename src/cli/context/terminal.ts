/** Prints results on standard output and notes on standard error. Columns are aligned. Only terminals get colours. */
import { styleText } from 'node:util'
import type { Command } from 'commander'

type Style = Parameters<typeof styleText>[0]
type Stream = NodeJS.WriteStream

/** Returns coloured text if `stream` is a terminal and NO_COLOR is not set. */
export function colour(style: Style, text: string, stream: Stream = process.stdout): string {
  return styleText(style, text, { stream })
}

/** Prints the result of a command. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** Prints the result of a command as JSON, for scripts. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2))
}

/** Prints a note that is not part of the result, on standard error. */
export function note(text: string): void {
  process.stderr.write(`${colour('dim', text, process.stderr)}\n`)
}

/** Prints sentences. On a terminal, long lines are wrapped at its width. Line breaks in `text` are kept. */
export function printProse(text: string): void {
  print(process.stdout.isTTY ? wrapped(text, process.stdout.columns || 80) : text)
}

/**
 * Wraps lines that are longer than `width`, between words. A continuation line has the same indentation as the line
 * that was wrapped.
 */
export function wrapped(text: string, width: number): string {
  return text
    .split('\n')
    .map((line) => wrappedLine(line, width))
    .join('\n')
}

function wrappedLine(line: string, width: number): string {
  const [indent = ''] = /^ */.exec(line) ?? []
  const lines: string[] = []
  for (const word of line.trim().split(' ')) {
    const last = lines.at(-1)
    if (last === undefined || widthOf(last) + 1 + widthOf(word) > width) lines.push(indent + word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines.join('\n')
}

/** Returns a word for a command line: in quotes, if the shell would interpret one of its characters. */
export function inShell(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** Adds examples to the help of a command. Each example has a command line and a description of its effect. */
export function examples(command: Command, list: [typed: string, does: string][]): Command {
  const lines = list.map(([typed, does]) => `  # ${does}\n  ${typed}`)
  return command.addHelpText('after', `\n${list.length > 1 ? 'Examples' : 'Example'}:\n${lines.join('\n\n')}`)
}

/** Returns a table with aligned columns, or one block for each row if the terminal is too narrow. */
export function table(headings: string[], rows: string[][]): string {
  const plain = rows.map((row) => row.map(oneLine))
  const widths = headings.map((heading, column) => {
    return Math.max(...[heading, ...plain.map((row) => row[column] ?? '')].map(widthOf))
  })
  const width = widths.reduce((sum, one) => sum + one + 2, -2)
  if (process.stdout.isTTY && width > process.stdout.columns) return blocks(headings, rows)
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => padded(cell, widths[column]!))
      .join('  ')
      .trimEnd()
  return [colour('dim', line(headings)), ...plain.map(line)].join('\n')
}

function blocks(headings: string[], rows: string[][]): string {
  const entries = (row: string[]) =>
    headings.map((heading, column): [string, string | undefined] => [heading.toLowerCase(), row[column] || undefined])
  return rows.map((row) => listing(entries(row))).join('\n\n')
}

/** Returns names and values, one pair on each line. Entries without a value are left out. */
export function listing(entries: [name: string, value: string | undefined][], indent = ''): string {
  const shown = entries.filter((entry): entry is [string, string] => entry[1] !== undefined)
  const width = Math.max(...shown.map(([name]) => widthOf(name)))
  return shown.map(([name, value]) => `${indent}${colour('dim', padded(name, width))}  ${oneLine(value)}`).join('\n')
}

/**
 * Replaces control characters and invisible format characters by spaces, so that a text that a client has chosen cannot
 * overwrite other parts of the screen, show its letters in another order, or look like another text.
 */
export function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')
}

function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)))
}

const letters = new Intl.Segmenter()
const wide = /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u

/** Returns the number of terminal columns that a text needs. Wide characters and emoji need two columns each. */
function widthOf(text: string): number {
  return [...letters.segment(text)].reduce((width, { segment }) => width + (wide.test(segment) ? 2 : 1), 0)
}

/** Returns a time relative to now: "in 9 min", "3 h ago". */
export function fromNow(time: number, now = Date.now()): string {
  return time > now ? `in ${duration(time - now)}` : `${duration(now - time)} ago`
}

const units: [name: string, milliseconds: number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
]

/**
 * Returns a duration in days, hours, minutes or seconds: in the largest of these units that gives at least 2. So 90
 * minutes are "90 min", and 120 minutes are "2 h".
 */
export function duration(milliseconds: number): string {
  const [name, unit] = units.find(([, length]) => milliseconds >= 2 * length) ?? units.at(-1)!
  return `${Math.round(milliseconds / unit)} ${name}`
}

export function iso(time: number): string {
  return new Date(time).toISOString()
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`
}
