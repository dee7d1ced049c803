/** Reads settings with a schema and reports all problems at once, in sentences. */
import type { z } from 'zod'

/** Thrown if a configuration is invalid. The message contains every problem, one per line. */
export class ConfigError extends Error {
  /** One sentence for each problem. A sentence starts with the name of the setting and contains no secret. */
  readonly problems: string[]

  constructor(problems: string[]) {
    super(`This configuration cannot be used:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }

  /** @deprecated Use `problems`. */
  get complaints(): string[] {
    return this.problems
  }
}

/** The result of reading settings. */
export interface Reading<Value> {
  /** The valid settings. Invalid settings are absent or have their defaults, so that further checks are possible. */
  value: Value
  problems: string[]
  /** The invalid settings, as dotted paths. */
  broken: Set<string>
}

export interface ReadingManner {
  /** Dotted paths of all settings, for the suggestion "did you mean". */
  known?: string[]
  /** Returns the name of a setting for messages. */
  nameOf?: (path: string) => string
}

/** Tells zod not to compile the schema to JavaScript, because that saves time only if a schema is used many times. */
const readOnce = { jitless: true }

/**
 * Validates settings with a schema. Invalid settings are left out of the result, and all problems are reported at once.
 */
export function readSettings<Schema extends z.ZodType>(
  schema: Schema,
  input: Record<string, unknown>,
  { known = [], nameOf = (path) => path }: ReadingManner = {},
): Reading<z.output<Schema>> {
  const read = schema.safeParse(input, readOnce)
  if (read.success) return { value: read.data, problems: [], broken: new Set() }

  const problems = read.error.issues.flatMap((issue) => describe(issue, known, nameOf))
  const paths = read.error.issues.flatMap(settingsOf)
  const rest = paths.reduce((settings, path) => without(settings, path), input)
  return {
    value: schema.parse(rest, readOnce),
    problems: [...new Set(problems)],
    broken: new Set(paths.map((path) => path.join('.'))),
  }
}

function describe(issue: z.core.$ZodIssue, known: string[], nameOf: (path: string) => string): string[] {
  const path = spell(issue.path)
  if (issue.code !== 'unrecognized_keys') return [`${nameOf(path)} ${issue.message}`]
  return issue.keys.map((key) => {
    const unknown = path ? `${path}.${key}` : key
    return `${nameOf(unknown)} is not a setting${didYouMean(nearestSetting(unknown, known))}`
  })
}

/**
 * Returns the paths of the settings that an issue is about. If the issue is about an entry of a list, the path is the
 * path of the list.
 */
function settingsOf(issue: z.core.$ZodIssue): string[][] {
  const entry = issue.path.findIndex((step) => typeof step === 'number')
  const path = (entry < 0 ? issue.path : issue.path.slice(0, entry)).map(String)
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path]
}

function spell(path: PropertyKey[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    return text ? `${text}.${String(step)}` : String(step)
  }, '')
}

function without(settings: Record<string, unknown>, [first, ...rest]: string[]): Record<string, unknown> {
  const entries = Object.entries(settings).flatMap(([key, value]): [string, unknown][] => {
    if (key !== first) return [[key, value]]
    return rest.length > 0 && isPlain(value) ? [[key, without(value, rest)]] : []
  })
  return Object.fromEntries(entries)
}

/**
 * Returns the option `error` of a schema. The message says what a setting must be and what it is, so use it only for
 * settings that are not secret.
 */
export function expectation(what: string): { error: (issue: { input?: unknown }) => string } {
  return { error: ({ input }) => `must be ${what}; it ${describeValue(input)}` }
}

/**
 * Like `expectation`, but for secret settings: the message contains only the length or the type of the value.
 *
 * @param hint returns the end of the message, which must not contain the value
 */
export function secretExpectation(
  what: string,
  hint: (value: unknown) => string = () => '',
): { error: (issue: { input?: unknown }) => string } {
  return { error: ({ input }) => `must be ${what}; it ${describeSecret(input)}${hint(input)}` }
}

/** Describes a value that may be secret: by what is unusual about it, if it is an address, or by its length or type. */
function describeSecret(value: unknown): string {
  return (typeof value === 'string' ? describeAddress(value) : undefined) ?? `is ${showSecret(value)}`
}

function describeValue(value: unknown): string {
  // The operator may have put a secret into the wrong setting: a long key, or a URL with a password.
  const isPrivate = typeof value === 'string' && (value.length > 40 || value.includes('://'))
  if (isPrivate) return describeSecret(value)
  if (typeof value === 'string') return `is ${JSON.stringify(value)}`
  if (typeof value === 'number' || typeof value === 'boolean') return `is ${value}`
  return `is ${showKind(value)}`
}

/**
 * Returns what is unusual about an address, without the address itself: another scheme than https, a user name or a
 * fragment. Returns undefined if nothing is, or if the value is not an address.
 */
function describeAddress(value: string): string | undefined {
  const [, scheme] = /^(https?|wss?|ftp|file|smtps?|postgres(?:ql)?|sqlite):\/\//i.exec(value) ?? []
  if (scheme === undefined || !URL.canParse(value)) return undefined
  const { username, hash } = new URL(value)
  const unusual = [
    ...(scheme === 'https' ? [] : [`begins with "${scheme}://"`]),
    ...(username === '' ? [] : ['contains a user name']),
    ...(hash === '' ? [] : ['contains a fragment']),
  ]
  return unusual.length === 0 ? undefined : unusual.join(' and ')
}

function showSecret(value: unknown): string {
  return typeof value === 'string' ? `${value.length} characters long` : showKind(value)
}

function showKind(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`
}

export function didYouMean(nearest: string | undefined): string {
  return nearest === undefined ? '' : `; did you mean ${nearest}?`
}

/**
 * Returns the candidate that was probably meant by the misspelled `word`, or undefined if there is none.
 *
 * @param atMost how many letters may be wrong, by default a quarter of the word
 */
export function nearest(
  word: string,
  candidates: string[],
  atMost: number = Math.max(1, Math.floor(word.length / 4)),
): string | undefined {
  return closest(candidates, (candidate) => slips(word, candidate), atMost)
}

function nearestSetting(unknown: string, known: string[]): string | undefined {
  const [home, leaf] = split(unknown)
  const allowed = Math.max(2, Math.floor(leaf.length / 3))
  return closest(
    known,
    (candidate) => {
      const [otherHome, otherLeaf] = split(candidate)
      return slips(leaf, otherLeaf) + (home === otherHome ? 0 : 1)
    },
    allowed,
  )
}

function split(path: string): [string, string] {
  const dot = path.lastIndexOf('.')
  return [path.slice(0, Math.max(dot, 0)), path.slice(dot + 1)]
}

function closest(candidates: string[], distance: (candidate: string) => number, allowed: number): string | undefined {
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: distance(candidate) }))
    .sort((one, other) => one.distance - other.distance)
  const first = ranked[0]
  return first !== undefined && first.distance <= allowed ? first.candidate : undefined
}

/**
 * Returns how many letters must be added, dropped or changed (Levenshtein distance). Case and underscores are ignored.
 */
function slips(one: string, other: string): number {
  const from = one.toLowerCase().replaceAll('_', '')
  const to = other.toLowerCase().replaceAll('_', '')
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (const [line, letter] of [...from].entries()) {
    const next = [line + 1]
    for (const [column, wanted] of [...to].entries()) {
      next.push(Math.min(row[column + 1]! + 1, next[column]! + 1, row[column]! + (letter === wanted ? 0 : 1)))
    }
    row = next
  }
  return row.at(-1)!
}

/** Returns whether a value is a plain object: neither a list nor an instance of a class. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
