/**
 * `npm run release -- VERSION`: prepares a release. It does not run the steps that cannot be undone.
 *
 *     npm run release -- 0.2.0 --dry-run   shows the result, in a temporary clone
 *     npm run release -- 0.2.0             commits and tags it here
 *     --ci COMMAND                         the checks that must pass first (default: .ci/run)
 *
 * The maintainer must then push and publish. The last lines of the output contain the commands.
 */
import { execFileSync, type StdioOptions } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { releaseChangelog } from './changelog.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'dry-run': { type: 'boolean', default: false }, ci: { type: 'string', default: '.ci/run' } },
})
const repository = join(import.meta.dirname, '..')

try {
  if (positionals.length !== 1) throw new Error('name one version: npm run release -- 0.2.0')
  release(positionals[0]!, { ci: values.ci, isDryRun: values['dry-run'] })
} catch (error) {
  console.error(`No release: ${(error as Error).message}`)
  process.exitCode = 1
}

function release(version: string, { ci, isDryRun }: { ci: string; isDryRun: boolean }): void {
  refuseUncommitted()
  refuseVersion(version)
  if (!isDryRun) {
    makeRelease(repository, version, ci)
    return
  }
  const clone = mkdtempSync(join(tmpdir(), 'doorbell-release-'))
  try {
    execFileSync('git', ['clone', '--quiet', repository, clone], { stdio: 'inherit' })
    makeRelease(clone, version, ci)
    console.log('\nThis was a dry run: nothing has changed here.')
  } finally {
    rmSync(clone, { recursive: true, force: true })
  }
}

function makeRelease(folder: string, version: string, ci: string): void {
  say(`${ci} has to pass`)
  run(folder, 'bash', ['-c', ci])
  borrowModules(folder)

  const file = join(folder, 'CHANGELOG.md')
  const today = new Date().toISOString().slice(0, 10)
  const { changelog, notes } = releaseChangelog(readFileSync(file, 'utf8'), version, today)

  try {
    say(`version ${version}, and what would be published`)
    run(folder, 'npm', ['version', version, '--no-git-tag-version', '--allow-same-version'], 'ignore')
    writeFileSync(file, changelog)
    run(folder, 'npm', ['publish', '--dry-run'])
  } catch (error) {
    run(folder, 'git', ['restore', '.'])
    throw error
  }

  say('commit and tag')
  run(folder, 'git', ['commit', '--quiet', '--all', '--message', `Release ${version}`])
  run(folder, 'git', ['tag', '--annotate', `v${version}`, '--cleanup=verbatim', '--message', `${version}\n\n${notes}`])
  run(folder, 'git', ['show', '--stat', '--format=%h %s', 'HEAD'])

  say('notes')
  console.log(notes)
  say('what is left to do')
  console.log('git push --follow-tags\nnpm publish')
}

/** Throws if there are uncommitted changes, because a release contains only committed changes. */
function refuseUncommitted(): void {
  const changes = ask('git', ['status', '--porcelain'])
  if (changes !== '') throw new Error(`there are changes that are not committed:\n${changes}`)
}

function refuseVersion(version: string): void {
  if (!/^\d+\.\d+\.\d+$/.test(version)) throw new Error(`${version} is no version such as 0.2.0`)
  if (ask('git', ['tag', '--list', `v${version}`]) !== '') throw new Error(`there is a tag v${version} already`)
  const { version: present } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string }
  if (version.localeCompare(present, 'en', { numeric: true }) < 0)
    throw new Error(`${version} is older than ${present}`)
}

/**
 * Links the installed packages into the clone if the checks have not installed any there, because packing needs the
 * compiler.
 */
function borrowModules(folder: string): void {
  const modules = join(folder, 'node_modules')
  if (!existsSync(modules)) symlinkSync(join(repository, 'node_modules'), modules)
}

function run(folder: string, program: string, words: string[], stdio: StdioOptions = 'inherit'): void {
  execFileSync(program, words, { cwd: folder, stdio })
}

function ask(program: string, words: string[]): string {
  return execFileSync(program, words, { cwd: repository, encoding: 'utf8' }).trim()
}

function say(text: string): void {
  console.log(`\n== ${text}`)
}
