/**
 * `npm run docs:configuration`: writes the tables of docs/configuration.md from the declarations of the settings. The
 * text around them is written by hand; the comment above a table names its settings.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { environmentName } from '../src/config/environment.ts'
import { type Declaration, declarations, sectionsIn, settingsIn } from '../src/config/schema.ts'
import { inGroups } from '../src/config/settings/kinds.ts'
import { noteOnDevelopment } from '../src/config/settings/setting.ts'

const file = 'docs/configuration.md'

if (import.meta.main) writeFileSync(file, configurationPage(readFileSync(file, 'utf8')))

/** Returns the page with its tables replaced. @throws if a setting is not in exactly one table */
export function configurationPage(page: string): string {
  const shown: string[] = []
  const written = page
    .replaceAll(
      /(<!-- settings: (.*) -->\n)[\s\S]*?(<!-- \/settings -->)/g,
      (_all, start: string, names: string, end) => {
        shown.push(...names.split(' '))
        return `${start}\n${settingsTable(names.split(' '))}\n${end}`
      },
    )
    .replace(/(<!-- environment -->\n)[\s\S]*?(<!-- \/environment -->)/, `$1\n${environmentTable()}\n$2`)
  const missing = declarations.filter(({ path }) => shown.filter((name) => name === path).length !== 1)
  if (missing.length > 0) throw new Error(`not shown exactly once: ${missing.map(({ path }) => path).join(', ')}`)
  return written
}

function settingsTable(names: string[]): string {
  const declared = names.map((name) => {
    const found = declarations.find(({ path }) => path === name)
    if (found === undefined) throw new Error(`${name} is not a setting`)
    return found
  })
  const notes = sectionsIn(declared).flatMap(({ path, info: { description } }) =>
    description === undefined ? [] : [`- \`${path}\`: ${cell(description)}\n`],
  )
  const rows = settingsIn(declared).map(settingRow)
  return `${notes.join('')}${notes.length > 0 ? '\n' : ''}${table(['setting', 'unless set', 'value', 'what for'], rows)}`
}

function settingRow(setting: Declaration): string[] {
  const { path, info } = setting
  return [`\`${path}\``, unlessSet(setting), cell(info.values ?? ''), cell(descriptionOf(setting))]
}

function descriptionOf({ info }: Declaration): string {
  return info.unlessSet === undefined ? `${info.description}${noteOnDevelopment(info)}` : `${info.description}`
}

function unlessSet({ info, default: fallback }: Declaration): string {
  return info.unlessSet ?? valueText(info.usual?.production ?? fallback)
}

function valueText(value: unknown): string {
  if (value === undefined) return '–'
  if (typeof value === 'number') return inGroups(value)
  if (Array.isArray(value)) return value.length === 0 ? '`[]`' : `\`${value.join(' ')}\``
  return `\`${typeof value === 'object' ? JSON.stringify(value) : value}\``
}

function environmentTable(): string {
  const settable = settingsIn(declarations).filter(({ kind }) => kind !== 'structure')
  return table(
    ['variable', 'setting'],
    settable.map(({ path }) => [`\`${environmentName(path)}\``, `\`${path}\``]),
  )
}

/** Returns the Markdown of a cell. `<` is escaped outside code, where it would start an HTML element. */
function cell(text: string): string {
  return text
    .split(/(`[^`]*`)/)
    .map((part) => (part.startsWith('`') ? part : part.replaceAll('<', '\\<')))
    .join('')
    .replaceAll('|', '\\|')
}

/** Returns a table in the format of Biome: each column is as wide as its content. */
function table(head: string[], rows: string[][]): string {
  const widths = head.map((_title, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)))
  const line = (cells: string[]) => `| ${cells.map((text, column) => text.padEnd(widths[column]!)).join(' | ')} |\n`
  return `${line(head)}${line(widths.map((width) => '-'.repeat(width)))}${rows.map(line).join('')}`
}
