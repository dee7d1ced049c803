/** `doorbell init`: the files to start from. */
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { configTemplate, environmentTemplate } from '../config/template.ts'
import { Failure } from './context/failure.ts'
import { examples, ink, print } from './context/terminal.ts'

interface InitOptions {
  force?: boolean
}

export function addInit(program: Command): void {
  const init = program
    .command('init')
    .description('Write doorbell.config.ts, with every setting explained, and .env.example with a fresh secret.')
    .option('--force', 'overwrite what is there')
    .action(run)
  examples(init, [['npx doorbell init', 'the files to start from']])
}

const configFile = 'doorbell.config.ts'
const environmentFile = '.env.example'

async function run({ force = false }: InitOptions): Promise<void> {
  const there = [configFile, environmentFile].filter((file) => existsSync(file))
  if (there.length > 0 && !force) {
    const are = there.length > 1 ? 'are' : 'is'
    throw new Failure(`${there.join(' and ')} ${are} here already; nothing was written. --force overwrites.`)
  }
  await writeFile(configFile, configTemplate())
  // The mode counts only for a file that is new, but then it counts from the first moment.
  await writeFile(environmentFile, environmentTemplate(), { mode: 0o600 })
  print(next)
}

const next = `Wrote ${ink('bold', configFile)} and ${ink('bold', environmentFile)}.

Next:
  npx doorbell serve          start it as it is: on this machine, for development
  npx doorbell serve --demo   the same, with demo clients and users
  npx doorbell doctor         see what is missing

For production: take the line "development" out, set issuer to your https address, and move ${environmentFile} to
where the server gets its environment from. The secret in it is real and made for you: keep it out of the repository.`
