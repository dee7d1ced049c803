/** `doorbell init`: writes a configuration file to start from. */
import { existsSync } from 'node:fs'
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import { configTemplate, environmentTemplate } from '../config/template.ts'
import { Failure } from './context/failure.ts'
import { colour, examples, print } from './context/terminal.ts'

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
  const ignored = await keepOutOfGit(process.cwd())
  print(`Wrote ${colour('bold', configFile)} and ${colour('bold', environmentFile)}.`)
  if (ignored.length > 0) print(`Added to .gitignore: ${ignored.join(', ')}.`)
  print(next)
  if (existsSync(database)) print(databaseIsThere)
}

/** Files that contain secrets, or may contain them. */
const secretFiles = [environmentFile, '.env', 'doorbell.db*']

/**
 * Resolves to the lines that were added: none if they are there already, or if the folder is not in a Git repository.
 */
async function keepOutOfGit(folder: string): Promise<string[]> {
  if (!isInGit(folder)) return []
  const file = join(folder, '.gitignore')
  const text = existsSync(file) ? await readFile(file, 'utf8') : ''
  const lines = text.split(/\r?\n/).map((line) => line.trim())
  const missing = secretFiles.filter((each) => !lines.includes(each) && !lines.includes(`/${each}`))
  const before = text === '' || text.endsWith('\n') ? '' : '\n'
  if (missing.length > 0) await appendFile(file, `${before}${missing.join('\n')}\n`)
  return missing
}

function isInGit(folder: string): boolean {
  if (existsSync(join(folder, '.git'))) return true
  return dirname(folder) !== folder && isInGit(dirname(folder))
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
