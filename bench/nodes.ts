/**
 * `npm run bench:nodes`: tests three nodes on one Postgres, with all failures that the nodes must survive:
 *
 *     npm run bench:nodes [flows]        20 000 by default
 *
 * Counts all broken guarantees, and writes the section `nodes` of bench/results.md. Exits with 1 unless all counts are
 * 0.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { type LetDown, playThreeNodes, type Report } from '../test/crash/three-nodes.ts'

const flows = Number(process.argv[2] ?? 20_000)
const stopped = 60_000
const atOnce = 32
const kills = 3
const timeout = 5
const resultsFile = new URL('./results.md', import.meta.url)

const names: Record<keyof LetDown, string> = {
  decisionsLost: 'decisions lost',
  notificationsLost: 'notifications lost',
  doubleRedemptions: 'double redemptions',
  wrong5xx: '5xx while the database was there, or without `Retry-After`',
  wrongAnswers: 'other unexpected responses',
  nodesLost: 'nodes that ended without being killed',
}

const where = machine()
const report = await playThreeNodes({ flows, atOnce, kills, stopped, timeout, durable: true, say: console.log })
const section = describe(report)
console.log(`\n${section}`)
for (const complaint of report.complaints) console.log(complaint)
console.log('logged by the nodes:', report.logged)
writeSection(section)
process.exit(Object.values(report.letDown).every((many) => many === 0) ? 0 : 1)

function describe({ letDown, facts, seconds }: Report): string {
  const rows = [
    ...Object.entries(letDown).map(([name, many]) => [`**${names[name as keyof LetDown]}**`, `**${many}**`]),
    ...Object.entries(facts).sort(([one], [other]) => (one < other ? -1 : 1)),
  ]
  return `## Several nodes

\`npm run bench:nodes\`: three nodes on one Postgres (\`fsync\` on), clocks 1 s behind, exact, and 1 s ahead. Clients send
requests to one node, users decide at another, clients redeem at the third and the first at the same time; a third each by
poll, ping and push, ${atOnce} at once. Meanwhile \`LISTEN\` connections are terminated, a node is killed while it holds leases, Postgres
is restarted, then crashes, and a node is stopped for ${stopped / 1000} s.

${where}; ${Math.round(seconds)} s in all.

${table(rows)}`
}

function machine(): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const changed = execFileSync('git', ['status', '--porcelain', 'src'], { encoding: 'utf8' }).trim() !== ''
  return `${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores (${cpus()[0]?.model.trim()}), Node ${process.version}, commit ${commit}${changed ? ' and changes' : ''}`
}

function table(rows: (string | number)[][]): string {
  const texts = [['what', 'how many'], ...rows].map((row) => row.map(String))
  const [first, second] = [0, 1].map((column) => Math.max(...texts.map((row) => row[column]!.length)))
  const lines = texts.map(([what, many]) => `| ${what!.padEnd(first!)} | ${many!.padStart(second!)} |`)
  return [lines[0], `| ${'-'.repeat(first!)} | ${'-'.repeat(second! - 1)}: |`, ...lines.slice(1)].join('\n')
}

/** Replaces the section between the marks. Other scripts write other sections of the same file. */
function writeSection(section: string): void {
  const [begin, end] = ['<!-- nodes -->', '<!-- /nodes -->']
  let text = '# Results\n'
  try {
    text = readFileSync(resultsFile, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const block = `${begin}\n\n${section}\n\n${end}`
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  const isThere = from >= 0 && to > from
  writeFileSync(
    resultsFile,
    isThere ? text.slice(0, from) + block + text.slice(to + end.length) : `${text}\n${block}\n`,
  )
}
