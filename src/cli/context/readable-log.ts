/**
 * The log for a developer at a terminal: lines of text instead of JSON. The library pino-pretty is not used, because it
 * would add more packages than the log itself needs.
 */
import type { DestinationStream } from 'pino'
import { colour, oneLine } from './terminal.ts'

export interface ReadableLog extends DestinationStream {
  /**
   * Writes one line about all changes that the configuration has caused so far, such as removed clients. Until this
   * function is called, such changes are collected and not written, because one line for each of them would fill the
   * screen at a start.
   */
  tellChanges(): void
}

/** @param out where the text is written: by default standard error */
export function createReadableLog(out: { write(text: string): unknown } = process.stderr): ReadableLog {
  const changes = new Map<string, string[]>()
  let isCollecting = true
  return {
    write(json) {
      const line = JSON.parse(json) as Line
      const subject = line.client ?? line.user
      if (isCollecting && line.by === 'configuration' && subject !== undefined) {
        changes.set(line.event!, [...(changes.get(line.event!) ?? []), subject])
      } else {
        out.write(textOf(line))
      }
    },
    tellChanges() {
      isCollecting = false
      if (changes.size === 0) return
      const each = [...changes].map(([event, subjects]) => `${event} ${listed(subjects)}`)
      out.write(textOf({ level: 30, time: Date.now(), msg: `changes by the configuration: ${each.join('; ')}` }))
      changes.clear()
    },
  }
}

interface Line {
  level: number
  time: string | number
  audit?: true
  /** The time of an audit event. It is not shown, because the member `time` has the same value. */
  at?: string
  event?: string
  msg?: string
  client?: string
  user?: string
  by?: string
  error?: { stack?: string; message?: string }
  [field: string]: unknown
}

type Style = Parameters<typeof colour>[0]

/** The name and the style of each level, by pino's number of the level. */
const levels = new Map<number, [name: string, style: Style]>([
  [10, ['trace', 'dim']],
  [20, ['debug', 'dim']],
  [30, ['info', 'green']],
  [40, ['warn', 'yellow']],
  [50, ['error', 'red']],
  [60, ['fatal', 'red']],
])

function textOf({ level, time, audit: _audit, at: _at, event, msg, error, ...fields }: Line): string {
  const [name, style] = levels.get(level) ?? [String(level), 'dim']
  const told = Object.entries(fields).map(([field, value]) => paint('dim', `${shown(field)}=${shown(value)}`))
  const words = [event, msg].flatMap((word) => (word === undefined ? [] : [oneLine(word)]))
  const clock = new Date(time).toTimeString().slice(0, 8)
  const first = [paint('dim', clock), paint(style, name.padEnd(5)), ...words, ...told].join('  ')
  return `${[first, ...stackOf(error)].join('\n')}\n`
}

function shown(value: unknown): string {
  if (typeof value !== 'string') return oneLine(JSON.stringify(value))
  // Control characters become spaces before the check for spaces, because a text with spaces must be in quotes.
  const text = oneLine(value)
  return /^\S+$/.test(text) ? text : JSON.stringify(text)
}

function stackOf(error: Line['error']): string[] {
  const text = error?.stack ?? error?.message
  return text === undefined ? [] : text.split('\n').map((line) => paint('dim', `    ${oneLine(line)}`))
}

/** Upper limit for the ids that a line lists. The remaining ids are only counted. */
const mostListed = 8

function listed(ids: string[]): string {
  const more = ids.length > mostListed ? ` and ${ids.length - mostListed} more` : ''
  return ids.slice(0, mostListed).join(', ') + more
}

const paint = (style: Style, text: string) => colour(style, text, process.stderr)
