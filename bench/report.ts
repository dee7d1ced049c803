/** Writes tables, and sections of `bench/results.md`. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'

const file = fileURLToPath(new URL('./results.md', import.meta.url))

export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const half = sorted.length / 2
  return sorted.length % 2 ? sorted[Math.floor(half)]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/**
 * Returns the 95 % confidence interval for the median of the distribution. The limits are two of the values, selected
 * by rank. So neither the shape of the distribution nor an outlier affects the result. At least six values are needed.
 */
export function medianInterval(values: number[]): [number, number] {
  const sorted = values.toSorted((one, other) => one - other)
  const count = sorted.length
  // Each value is below the median with the probability 1/2, like heads in a toss of a coin. So the number of values
  // below the median has a binomial distribution.
  let chance = 0.5 ** count
  let below = chance
  let rank = 0
  while (below + chance * ((count - rank) / (rank + 1)) <= 0.025) {
    chance *= (count - rank) / (rank + 1)
    below += chance
    rank++
  }
  return [sorted[rank]!, sorted[count - 1 - rank]!]
}

/** Returns whether the interval of a ratio overlaps 1 ± `within`. If it does not, the two measured values differ. */
export function isLevel([low, high]: [number, number], within: number): boolean {
  return low <= 1 + within && high >= 1 - within
}

/** Returns a number with three significant figures: 12 300, 1.23, 0.0123. */
export function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '–'
  if (value === 0) return '0'
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value >= 1000 ? grouped(Math.round(value)) : value.toFixed(Math.min(digits, 4))
}

export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ' ')
}

export function megabytes(bytes: number): string {
  return String(Math.round(bytes / 1024 / 1024))
}

/** Returns a table of Markdown with aligned columns. The first column is text, the others are figures. */
export function table(head: string[], rows: string[][]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length), 3))
  const line = (row: string[]) => {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
    )
    return `| ${cells.join(' | ')} |`
  }
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n')
}

/** The load of the machine before the measurement. It is printed, because other load affects the figures. */
const loadBefore = loadavg()[0]!

/** The commit is read at the start, because the checkout may change during a long measurement. */
const commitMeasured = commit()

/** Returns the circumstances of a measurement, such as date, commit, machine and versions, as a Markdown list. */
export function circumstances(postgres: string, how: string): string {
  const { model = 'unknown' } = cpus()[0] ?? {}
  const gigabytes = (totalmem() / 1024 ** 3).toFixed(0)
  const oidcProvider = JSON.parse(
    readFileSync(new URL('../node_modules/oidc-provider/package.json', import.meta.url), 'utf8'),
  ) as { version: string }
  return [
    `- ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC, commit ${commitMeasured}, ${how}`,
    `- ${model.trim()}, ${cpus().length} cores, ${gigabytes} GB of memory, ${process.platform} ${process.arch}, load before ${figure(loadBefore)}`,
    `- Node ${process.versions.node}, SQLite ${process.versions.sqlite}, Postgres ${postgres}, oidc-provider ${oidcProvider.version}`,
  ].join('\n')
}

/** Returns the commit of the checkout, with a remark if there are uncommitted changes. */
function commit(): string {
  const git = (...words: string[]) => spawnSync('git', words, { cwd: new URL('..', import.meta.url), encoding: 'utf8' })
  const { stdout, status } = git('rev-parse', '--short=10', 'HEAD')
  if (status !== 0) return 'unknown'
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', 'src', 'bench/*.ts', 'package-lock.json')
  return stdout.trim() + (changed.stdout === '' ? '' : ' with changes')
}

const introduction = `# Results

What the benchmarks printed, each in a section of its own; nothing here is written by hand.
[docs/guides/performance.md](../docs/guides/performance.md) says what is measured and how to read it.
`

/** Replaces the section `name` of `bench/results.md`. Other sections are not changed. */
export async function keepSection(name: string, text: string): Promise<void> {
  const [from, to] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`]
  const before = await readFile(file, 'utf8').catch(() => introduction)
  const section = `${from}\n\n${text.trim()}\n\n${to}`
  const start = before.indexOf(from)
  const after =
    start < 0
      ? `${before.trimEnd()}\n\n${section}\n`
      : before.slice(0, start) + section + before.slice(before.indexOf(to) + to.length)
  await writeFile(file, after)
}
