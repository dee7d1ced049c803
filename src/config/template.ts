/** The files that `doorbell init` writes, derived from the declarations of the settings. */
import { newSecret } from '../platform/crypto.ts'
import { environmentName } from './environment.ts'
import { type Declaration, declarations, settingsIn } from './schema.ts'
import { noteOnDevelopment, type SettingInfo } from './settings/setting.ts'

export interface TemplateChoices {
  issuer?: string
  port?: number
  /** `sqlite:…` or `postgres://…` */
  database?: string
}

/**
 * Returns a commented `doorbell.config.ts`. It imports only types, so Node can load it even where the package
 * `doorbell-ciba` is not installed.
 */
export function configTemplate(choices: TemplateChoices = {}): string {
  const port = choices.port ?? 4000
  const chosen: Chosen = {
    issuer: quote(choices.issuer ?? `http://localhost:${port}`),
    port: String(port),
    development: 'true',
    database: quote(choices.database ?? 'sqlite:./doorbell.db'),
  }
  return `import type { ConfigInput } from 'doorbell-ciba'

// Every setting can also be an environment variable: requests.defaultExpiry is DOORBELL_REQUESTS_DEFAULT_EXPIRY.
// The environment wins. Lines that start with //name: show the default, or an example where there is none; remove
// the slashes to change it. Lines that start with // and a space are explanations and further examples.

export default {
${declarations.map((each) => linesOf(each, chosen, '  ').join('\n')).join('\n\n')}
} satisfies ConfigInput
`
}

/** The settings that the template sets: the TypeScript code of each value, by the name of the setting. */
type Chosen = Partial<Record<string, string>>

const width = 120

function linesOf(declared: Declaration, chosen: Chosen, indent: string): string[] {
  return declared.kind === 'section' ? sectionLines(declared, chosen, indent) : settingLines(declared, chosen, indent)
}

function sectionLines(section: Declaration, chosen: Chosen, indent: string): string[] {
  const slashes = settingsIn([section]).some(isReady) ? '//' : '// '
  return [
    ...comment(section.info.description ?? '', indent),
    `${indent}${slashes}${section.name}: {`,
    ...section.settings.flatMap((each) => linesOf(each, chosen, `${indent}  `)),
    `${indent}${slashes}},`,
  ]
}

function settingLines(setting: Declaration, chosen: Chosen, indent: string): string[] {
  const { path, name, info } = setting
  const ours = chosen[path]
  if (ours !== undefined) return [...comment(info.description!, indent), `${indent}${name}: ${ours},`]
  const description = `${info.description}${noteOnDefault(info)}`
  const shown = codeOf(setting)
  if (shown === undefined) return comment(`${name}: ${description}`, indent)
  const slashes = isReady(setting) ? '//' : '// '
  const lines = `${name}: ${shown},`.split('\n').map((line) => line.replace(/^ */, `${indent}$&${slashes}`))
  return [...comment(description, indent), ...withValues(lines, setting, indent)]
}

/**
 * Adds a description of the accepted values: on the line of the setting, or above the setting if the line would be too
 * long.
 */
function withValues(lines: string[], { kind, info }: Declaration, indent: string): string[] {
  if (kind === 'structure' || info.values === '`true`, `false`') return lines
  const values = plain(info.values ?? '')
  const line = `${lines[0]} // ${values}`
  return lines.length === 1 && line.length <= width ? [line] : [...comment(`(${values})`, indent), ...lines]
}

/**
 * Returns a sentence about the default of a setting, or an empty text if the line of the setting in the template shows
 * the default.
 */
function noteOnDefault(info: SettingInfo): string {
  const { unlessSet, usual, example, isSketch } = info
  if (unlessSet === undefined || usual !== undefined || isSketch) return noteOnDevelopment(info)
  return example === undefined || plain(unlessSet) === example ? '' : ` Unless set: ${unlessSet}.`
}

/** Returns whether the line of a setting is valid in development once the slashes before it are removed. */
function isReady({ info, default: fallback }: Declaration): boolean {
  const { usual, example, isSketch } = info
  const isSameInDevelopment = usual !== undefined && usual.development === usual.production
  return !isSketch && (example !== undefined || fallback !== undefined || isSameInDevelopment)
}

function codeOf({ info, default: fallback }: Declaration): string | undefined {
  if (info.example !== undefined) return info.example
  const value = fallback ?? info.usual?.production
  return value === undefined ? undefined : code(value)
}

function code(value: unknown): string {
  if (typeof value === 'string') return quote(value)
  if (typeof value === 'number' && value >= 10_000) return value.toLocaleString('en').replaceAll(',', '_')
  return Array.isArray(value) ? `[${value.map(code).join(', ')}]` : JSON.stringify(value)
}

/** Returns Markdown as comment lines that are at most `width` characters long. */
function comment(markdown: string, indent: string): string[] {
  const start = `${indent}// `
  const lines: string[] = []
  for (const word of plain(markdown).split(' ').filter(Boolean)) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > width) lines.push(`${start}${word}`)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}

/**
 * Returns Markdown as plain text: names of `doorbell` commands are in quotes, and links are replaced by the names of
 * their files.
 */
function plain(markdown: string): string {
  return markdown
    .replaceAll(/\[[^\]]*\]\(([^)]+)\)/g, 'docs/$1')
    .replaceAll(/`(doorbell [^`]+)`/g, '"$1"')
    .replaceAll('`', '')
}

/** Returns the text of a `.env` file with a new secret. The file must not be committed. */
export function environmentTemplate(secret: string = newSecret()): string {
  return `# Doorbell does not read this file. The command that starts it must load it:
#   set -a; . ./.env; set +a; npx doorbell serve
# Keep it out of the repository. With the secret, all values in the database can be decrypted; without it, the
# database cannot be used. Keep a copy in a safe place.

# At least 32 bytes, base64url. Never change it while the database is in use.
${environmentName('secret')}=${secret}

# Settings that differ from machine to machine:
${['issuer', 'database', 'host', 'port', 'logLevel'].map(variableLine).join('\n')}
`
}

function variableLine(path: string): string {
  const declared = declarations.find((each) => each.path === path)!
  const example = declared.info.example?.replaceAll("'", '') ?? String(declared.default)
  return `#${environmentName(path)}=${example}`
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`
}
