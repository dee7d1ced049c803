/**
 * `npm test`: one Postgres for all test files, and a Chromium if they need it, then Node's own test runner.
 *
 *     npm test                                       everything but the following; many files share a process
 *     npm run test:programs                          commands, browsers, and servers that are killed
 *     npm run test:tools                             benchmarks, release and bill of materials
 *     npm test -- src/platform test/flows/x.test.ts  some folders and files, each file in a process of its own
 *     npm test -- --test-name-pattern='a list'        the runner's flags
 *
 * Files with failed tests are run once more if, and only if, the machine stood still during the run.
 */
import { spawn } from 'node:child_process'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { needChromium } from './support/chromium-program.ts'
import { compileCache } from './support/compile-cache.ts'
import { startPostgres } from './support/postgres.ts'
import { makeScratch } from './support/scratch.ts'
import { shareProcesses } from './support/shared-processes.ts'
import { watchForStandstills } from './support/standstills.ts'
import { makeTemplates } from './support/templates.ts'

const everything = ['src/**/*.test.ts', 'test/**/*.test.ts']
/** These tests start a process for each step. They have commands of their own, so that `npm test` takes a few minutes. */
const programs = ['test/browser/**', 'test/cli/**', 'test/crash/**', 'test/tools/**']
const failedFiles = new URL('./support/failed-files.ts', import.meta.url).href
/** One more file at a time than a small machine has cores: tests that kill servers, or let calls time out, wait a lot. */
const usual = ['--test-concurrency=3', '--test-timeout=600000']

const { flags, patterns } = sort(process.argv.slice(2))
const files = globSync(patterns.length > 0 ? patterns.map(withinFolder) : everything, {
  exclude: ['**/node_modules/**', ...(patterns.length > 0 ? [] : programs)],
})
if (files.length === 0) {
  console.error(`No test files match ${(patterns.length > 0 ? patterns : everything).join(' ')}.`)
  process.exit(1)
}
process.exitCode = await runTests(files.sort())

async function runTests(files: string[]): Promise<number> {
  process.env.NODE_COMPILE_CACHE ??= compileCache
  if (files.some((file) => file.endsWith('.browser.test.ts'))) {
    try {
      process.env.DOORBELL_TEST_CHROMIUM = needChromium()
    } catch (error) {
      console.error((error as Error).message)
      return 1
    }
  }
  const scratch = await makeScratch()
  process.env.TMPDIR = scratch.folder
  process.env.DOORBELL_TEST_PORTS = join(scratch.folder, 'ports')
  const server = process.env.DOORBELL_TEST_POSTGRES ? undefined : await startPostgres()
  if (server) process.env.DOORBELL_TEST_POSTGRES = server.url
  try {
    const templates = await makeTemplates(scratch.folder)
    const shared = patterns.length > 0 ? files : await shareProcesses(files, join(scratch.folder, 'shared'))
    const env = { ...process.env, ...templates.env }
    const failed = join(scratch.folder, 'failed')
    const endOfWatch = watchForStandstills(process.env.DOORBELL_TEST_POSTGRES!)
    let code = await runNode(shared, env, failed)
    const standstills = await endOfWatch()
    if (code === 1 && standstills.length > 0) code = await runAgain(failed, standstills, env)
    // A server of our own is removed as a whole.
    if (!server) await templates.drop()
    return code
  } finally {
    await server?.stop()
    await scratch.remove()
  }
}

/** Nothing that failed while the machine stood still says anything about Doorbell. What fails again, fails. */
function runAgain(failed: string, standstills: string[], env: NodeJS.ProcessEnv): Promise<number> | number {
  const files = existsSync(failed) ? readFileSync(failed, 'utf8').split('\n').filter(Boolean) : []
  if (files.length === 0) return 1
  console.error(`\nThe machine stood still. ${standstills.join('. ')}.`)
  console.error(`The files with failed tests are run again:\n  ${files.join('\n  ')}\n`)
  return runNode(files, env, failed)
}

/** Told to stop, we tell the runner and wait for it, so that Postgres is still stopped. */
function runNode(files: string[], env: NodeJS.ProcessEnv, failed: string): Promise<number> {
  const child = spawn(process.execPath, ['--test', ...usual, ...reporters(failed), ...flags, ...files], {
    env,
    stdio: 'inherit',
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGTERM']))
  })
}

/** The usual one, and one that writes the names of failed files to `failed`. A reporter among the flags takes their place. */
function reporters(failed: string): string[] {
  if (flags.some((flag) => flag.startsWith('--test-reporter'))) return []
  const reporter = (name: string, destination: string) => [
    `--test-reporter=${name}`,
    `--test-reporter-destination=${destination}`,
  ]
  return [...reporter('spec', 'stdout'), ...reporter(failedFiles, failed)]
}

/** Flags go to the runner, the rest are files. What follows a flag and is no file is the flag's value. */
function sort(words: string[]): { flags: string[]; patterns: string[] } {
  const flags: string[] = []
  const patterns: string[] = []
  for (const [index, word] of words.entries()) {
    const before = words[index - 1] ?? ''
    const isValue = /^--[^=]+$/.test(before) && globSync(word).length === 0
    if (word.startsWith('-') || isValue) flags.push(word)
    else patterns.push(word)
  }
  return { flags, patterns }
}

function withinFolder(pattern: string): string {
  const isFolder = statSync(pattern, { throwIfNoEntry: false })?.isDirectory()
  return isFolder ? `${pattern.replace(/\/$/, '')}/**/*.test.ts` : pattern
}
