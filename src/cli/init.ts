/** `doorbell init`: writes a configuration file to start from. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { appendFile, chmod, readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { configTemplate, environmentTemplate } from '../config/template.ts'
import { Failure } from './context/failure.ts'
import { colour, examples, note, print, printProse } from './context/terminal.ts'

interface InitOptions {
  force?: boolean
}

export function addInit(program: Command): void {
  const init = program
    .command('init')
    .description('Write doorbell.config.ts, with every setting explained, and .env.example with a fresh secret.')
    .option('--force', 'overwrite existing files')
    .action(run)
  examples(init, [['npx doorbell init', 'the files to start from']])
}

const configFile = 'doorbell.config.ts'
const environmentFile = '.env.example'

async function run({ force = false }: InitOptions): Promise<void> {
  const there = [configFile, environmentFile].filter((file) => existsSync(file))
  if (there.length > 0 && !force) {
    const are = there.length > 1 ? 'are' : 'is'
    throw new Failure(`${there.join(' and ')} ${are} here already; nothing was written. Use --force to overwrite.`)
  }
  await write(configFile, () => writeFile(configFile, configTemplate()))
  await write(environmentFile, async () => {
    // `mode` applies only to a new file. `chmod` sets the mode of a file that existed before.
    await writeFile(environmentFile, environmentTemplate(), { mode: 0o600 })
    await chmod(environmentFile, 0o600)
  })
  print(`Wrote ${colour('bold', configFile)} and ${colour('bold', environmentFile)}.`)
  await keepOutOfGit()
  print(commands)
  printProse(production)
  if (existsSync(database)) printProse(databaseIsThere)
}

async function write(file: string, writing: () => Promise<void>): Promise<void> {
  try {
    await writing()
  } catch (error) {
    throw new Failure(
      `${file} cannot be written: ${reasonOf(error)}. Correct this and run "npx doorbell init --force".`,
    )
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return reasons.get(code ?? '') ?? message
}

const reasons = new Map([
  ['EISDIR', 'it is a folder'],
  ['EACCES', 'you have no permission'],
  ['EPERM', 'you have no permission'],
  ['EROFS', 'the file system is read-only'],
  ['ENOSPC', 'the disk is full'],
])

/**
 * Files that contain secrets, or may contain them. Each key is a line for `.gitignore`; its value lists the file names
 * that Git must ignore because of this line.
 */
const secretFiles = new Map([
  [environmentFile, [environmentFile]],
  ['.env', ['.env']],
  ['doorbell.db*', ['doorbell.db', 'doorbell.db-wal', 'doorbell.db.secret']],
])

/**
 * Adds to `.gitignore` the files with secrets that Git does not ignore yet, and prints what was added. Also warns of
 * files with secrets that Git would still commit.
 */
async function keepOutOfGit(): Promise<void> {
  if (!git('rev-parse', '--is-inside-work-tree')) return
  const missing = [...secretFiles].flatMap(([line, names]) => (names.every(isIgnored) ? [] : [line]))
  if (missing.length > 0) await ignore(missing)
  for (const [line, names] of secretFiles) {
    if (git('ls-files', '--error-unmatch', '--', line)) {
      note(`Git tracks ${line}, so it is committed although it is ignored: git rm --cached '${line}'`)
    } else if (!names.every(isIgnored)) {
      note(`Git does not ignore ${line}: a later line of a .gitignore allows it.`)
    }
  }
}

async function ignore(lines: string[]): Promise<void> {
  try {
    const text = existsSync('.gitignore') ? await readFile('.gitignore', 'utf8') : ''
    const before = text === '' || text.endsWith('\n') ? '' : '\n'
    await appendFile('.gitignore', `${before}${lines.join('\n')}\n`)
  } catch (error) {
    throw new Failure(
      `.gitignore cannot be changed: ${reasonOf(error)}. Git would commit secrets. Add these lines to a .gitignore yourself, or to .git/info/exclude:\n` +
        lines.map((line) => `  ${line}`).join('\n'),
    )
  }
  print(`Added to .gitignore: ${lines.join(', ')}.`)
  if (git('ls-files', '--error-unmatch', '--', '.gitignore')) {
    printProse('Git tracks .gitignore. Commit this change: it keeps secrets out of the repository.')
  }
}

/** Returns whether the rules in `.gitignore` cover a file name, even if Git already tracks the file. */
const isIgnored = (file: string) => git('check-ignore', '--quiet', '--no-index', '--', file)

/** Runs a Git command. Returns whether Git is installed and the command succeeded. */
function git(...words: string[]): boolean {
  return spawnSync('git', words, { stdio: 'ignore' }).status === 0
}

const commands = `
Next:
  npx doorbell serve          start it for development, on this machine
  npx doorbell serve --demo   the same, with demo clients and users
  npx doorbell doctor         check the configuration
`

const production = `For production: remove the line "development", set issuer to your https address, and move ${environmentFile} to where the server reads its environment from. It contains a newly generated secret: keep it out of the repository.`

const database = 'doorbell.db'

const databaseIsThere = `
The database ${database} is here already, from the demo or an earlier start. The first start with this configuration removes the clients and users of the demo from it, and logs that. To start with an empty database, stop the server and delete ${database} and the files beside it, or set another one as "database".`
