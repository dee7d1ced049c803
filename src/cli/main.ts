/**
 * The `doorbell` command. Each subcommand has a file of its own. This file turns errors into a message and an exit
 * code.
 */
import { Command } from 'commander'
import { ownVersion } from '../platform/version.ts'
import { addClient } from './client.ts'
import { explain } from './context/failure.ts'
import { colour, examples } from './context/terminal.ts'
import { addDevice } from './device.ts'
import { addDoctor } from './doctor/doctor.ts'
import { addInit } from './init.ts'
import { addKeys } from './keys.ts'
import { addMigrate } from './migrate.ts'
import { addOutbox } from './outbox.ts'
import { addRequest } from './request.ts'
import { addRequests } from './requests.ts'
import { addServe } from './serve.ts'
import { addUser } from './user.ts'

const additions = [
  addServe,
  addInit,
  addMigrate,
  addClient,
  addUser,
  addRequest,
  addDevice,
  addRequests,
  addOutbox,
  addKeys,
  addDoctor,
]

function createProgram(): Command {
  const program = new Command('doorbell')
    .description('CIBA for Node.js: a client sends an authentication request, the user decides on their own device.')
    .version(ownVersion(), '-V, --version', 'print the version')
    .option('--config <file>', 'the configuration file (default: doorbell.config.ts, .js or .json in this folder)')
    .helpOption('-h, --help', 'show help for a command')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => write(colour('red', text, process.stderr)) })
    .showHelpAfterError('See "npx doorbell <command> --help".')
    .exitOverride()
  examples(program, [
    ['npx doorbell serve --demo', 'a complete provider with demo clients and users'],
    [
      'npx doorbell request --client demo-till --login-hint alice@example.com',
      'send a request, and wait for the tokens',
    ],
    ['npx doorbell device --user alice', "decide it, as alice's phone would"],
  ])
  for (const add of additions) add(program)
  return program
}

/** Prints the error and exits, even if something, such as an open database, keeps this process alive. */
function giveUp(error: unknown): void {
  const { text, exitCode } = explain(error)
  process.exitCode = exitCode
  if (exitCode === 0) return
  process.stderr.write(text, () => process.exit(exitCode))
}

/** Exits without an error if the reader of the output closes it early, as `head` does. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  await createProgram().parseAsync()
} catch (error) {
  giveUp(error)
}
