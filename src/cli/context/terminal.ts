/** How things are written: answers on standard output, notes on standard error, columns aligned, colour only for eyes. */
import { styleText } from 'node:util'
import type { Command } from 'commander'

type Style = Parameters<typeof styleText>[0]
type Stream = NodeJS.WriteStream

/** Coloured if `stream` is a terminal and nobody objects (NO_COLOR). */
export function colour(style: Style, text: string, stream: Stream = process.stdout): string {
  return styleText(style, text, { stream })
}

/** The answer of a command. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** The answer of a command for a script. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2))
}

/** What a person may want to know besides the answer. */
export function note(text: string): void {
  process.stderr.write(`${colour('dim', text, process.stderr)}\n`)
}

/** Adds examples to the help of a command: what to type, and what it does. */
export function examples(command: Command, list: [typed: string, does: string][]): Command {
  const lines = list.map(([typed, does]) => `  # ${does}\n  ${typed}`)
  return command.addHelpText('after', `\n${list.length > 1 ? 'Examples' : 'Example'}:\n${lines.join('\n\n')}`)
}

/** A table with aligned columns, or, on a terminal that is too narrow for it, one block a row. */
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

/** Names and values below each other. What has no value is left out. */
export function listing(entries: [name: string, value: string | undefined][], indent = ''): string {
  const shown = entries.filter((entry): entry is [string, string] => entry[1] !== undefined)
  const width = Math.max(...shown.map(([name]) => widthOf(name)))
  return shown.map(([name, value]) => `${indent}${colour('dim', padded(name, width))}  ${oneLine(value)}`).join('\n')
}

/** Control characters would let whoever chose the text write elsewhere on the screen. */
function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
}

function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)))
}

const letters = new Intl.Segmenter()
const wide = /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u

/** Columns that a text takes up. */
function widthOf(text: string): number {
  return [...letters.segment(text)].reduce((width, { segment }) => width + (wide.test(segment) ? 2 : 1), 0)
}

/** "in 9 min", "3 h ago": how far a time is from now. */
export function fromNow(time: number, now = Date.now()): string {
  return time > now ? `in ${duration(time - now)}` : `${duration(now - time)} ago`
}

const units: [name: string, milliseconds: number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
]

/** In the largest unit of which there are two or more. */
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
