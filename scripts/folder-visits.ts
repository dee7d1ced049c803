/**
 * Counts how often a reader who follows one call through the code has to enter another folder:
 *
 *     node scripts/folder-visits.ts [commit]        beside the commit before the folders had two levels, by default
 *
 * Three calls are followed, in this checkout and in the other commit: an authentication request until it is stored, a
 * decision until the ping is sent, and a poll until the tokens are returned. For each function that runs for the call,
 * the folder of its file is recorded. A visit begins when the next function is in another folder. Two counts are
 * printed: one for the folders of the files, and one for the first folder level below src/.
 */
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type AnyNode, type Function as FunctionNode, parse } from 'acorn'
import { buildParts, buildPartsOn } from '../bench/build.ts'

/** The last commit with a flat list of folders. */
const usualOther = '87791de~1'

const flows = ['request → stored', 'decision → ping', 'poll → tokens'] as const
/** For each flow, the folders of the functions that ran, in order. */
type Trails = Record<(typeof flows)[number], string[]>

const other = process.argv[2] ?? usualOther
const builds = { before: buildPartsOn(other), now: buildParts() }
const trails = Object.fromEntries(
  Object.entries(builds).map(([name, parts]) => [name, follow(fileURLToPath(new URL('../../src/', parts)))]),
) as Record<keyof typeof builds, Trails>

console.log(`folder visits, before (${other}) and now`)
for (const [title, levels] of [
  ['by the folder of the file', 9],
  ['by the first level below src/', 1],
] as const) {
  console.log(`\n${title}`)
  for (const flow of flows) {
    const [before, now] = [visits(trails.before[flow], levels), visits(trails.now[flow], levels)]
    const change = Math.round((now / before - 1) * 100)
    console.log(`  ${flow.padEnd(18)}${String(before).padStart(5)}${String(now).padStart(5)}  ${change} %`)
  }
}

/**
 * Marks the functions of a build, and runs the flows in a separate process. Returns the folders that the flows entered.
 */
function follow(source: string): Trails {
  for (const file of globSync('**/*.js', { cwd: source })) mark(`${source}${file}`, dirname(relative('.', file)))
  const player = fileURLToPath(new URL('./folder-visits-player.ts', import.meta.url))
  const { stdout, stderr, status } = spawnSync(process.execPath, [player, source], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`the flows could not be played: ${stderr}`)
  return JSON.parse(stdout.slice(stdout.lastIndexOf('\n{') + 1)) as Trails
}

/** Changes the file so that each of its functions records `folder` when it is called. */
function mark(file: string, folder: string): void {
  const text = readFileSync(file, 'utf8')
  const entered = `globalThis.enterFolder?.(${JSON.stringify(folder)});`
  const insertions: [at: number, text: string][] = []
  for (const node of functionsIn(parse(text, { ecmaVersion: 'latest', sourceType: 'module' }))) {
    const { body } = node
    if (body.type === 'BlockStatement') insertions.push([body.start + 1, entered])
    else insertions.push([body.start, `(globalThis.enterFolder?.(${JSON.stringify(folder)}),(`], [body.end, '))'])
  }
  let marked = text
  for (const [at, inserted] of insertions.sort(([one], [two]) => two - one)) {
    marked = marked.slice(0, at) + inserted + marked.slice(at)
  }
  writeFileSync(file, marked)
}

function functionsIn(tree: AnyNode): FunctionNode[] {
  const found: FunctionNode[] = []
  const look = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    if (
      'type' in value &&
      /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(String(value.type))
    ) {
      found.push(value as FunctionNode)
    }
    Object.values(value).forEach(look)
  }
  look(tree)
  return found
}

function visits(trail: string[], levels: number): number {
  const places = trail.map((folder) => folder.split('/').slice(0, levels).join('/'))
  return places.filter((place, index) => place !== places[index - 1]).length
}
