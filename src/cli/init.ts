/** `doorbell init`: writes a configuration file to start from. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { appendFile, chmod, readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { configTemplate, environmentTemplate } from '../config/template.ts'
import { Failure } from './context/failure.ts'
import { colour, examples, note, print } from './context/terminal.ts'

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
  await writeFile(configFile, configTemplate())
  // The mode is set when the file is created. It does not change the mode of a file that exists.
  await writeFile(environmentFile, environmentTemplate(), { mode: 0o600 })
  await chmod(environmentFile, 0o600)
  print(`Wrote ${colour('bold', configFile)} and ${colour('bold', environmentFile)}.`)
  await keepOutOfGit()
  print(next)
  if (existsSync(database)) print(databaseIsThere)
}

/** Files that contain secrets, or may contain them. */
const secretFiles = [environmentFile, '.env', 'doorbell.db*']

/** Adds to `.gitignore` what Git does not ignore yet, and says so; also if Git would commit a file all the same. */
async function keepOutOfGit(): Promise<void> {
  if (!git('rev-parse', '--is-inside-work-tree')) return
  const missing = secretFiles.filter((file) => !isIgnored(file))
  if (missing.length > 0) {
    const text = existsSync('.gitignore') ? await readFile('.gitignore', 'utf8') : ''
    const before = text === '' || text.endsWith('\n') ? '' : '\n'
    await appendFile('.gitignore', `${before}${missing.join('\n')}\n`)
    print(`Added to .gitignore: ${missing.join(', ')}.`)
  }
  for (const file of secretFiles) {
    if (git('ls-files', '--error-unmatch', '--', file)) {
      note(`Git tracks ${file}, so it is committed although it is ignored: git rm --cached '${file}'`)
    } else if (!isIgnored(file)) {
      note(`Git does not ignore ${file}: a later line of a .gitignore allows it.`)
    }
  }
}

/** Whether Git would ignore such a file if it were not tracked. */
const isIgnored = (file: string) => git('check-ignore', '--quiet', '--no-index', '--', file.replace('*', ''))

/** Returns whether Git is there and the command succeeds. */
function git(...words: string[]): boolean {
  return spawnSync('git', words, { stdio: 'ignore' }).status === 0
}

const next = `
Next:
  npx doorbell serve          start it for development, on this machine
  npx doorbell serve --demo   the same, with demo clients and users
  npx doorbell doctor         check the configuration

For production: remove the line "development", set issuer to your https address, and move ${environmentFile} to
where the server reads its environment from. It contains a newly generated secret: keep it out of the repository.`

const database = 'doorbell.db'

const databaseIsThere = `
The database ${database} is here already, from the demo or an earlier start. The first start with this configuration
removes the clients and users of the demo from it, and logs that. To start with an empty database, stop the server and
delete ${database} and the files beside it, or set another one as "database".`
