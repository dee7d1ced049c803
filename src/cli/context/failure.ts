/** Converts errors of commands to messages and exit codes. */
import { CommanderError } from 'commander'
import { ConfigError } from '../../platform/validation.ts'
import { adviceOnDatabase } from './database-advice.ts'
import { hintOnEnvironmentFile } from './environment-file.ts'
import { colour } from './terminal.ts'

/** Thrown if a command cannot continue. The message consists of a few plain sentences, and says what to do next. */
export class Failure extends Error {
  override readonly name: string = 'Failure'
  readonly exitCode: number

  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export function explain(error: unknown): { text: string; exitCode: number } {
  // Commander has already printed the error.
  if (error instanceof CommanderError) return { text: '', exitCode: error.exitCode }
  const exitCode = error instanceof Failure ? error.exitCode : 1
  return { text: `${colour('red', wordsFor(error), process.stderr)}\n`, exitCode }
}

function wordsFor(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // The message of a `Failure` or a `ConfigError` contains the cause, so no stack trace is shown.
  if (error instanceof Failure) return error.message
  if (error instanceof ConfigError) return wordsForProblems(error)
  if (isDebugging()) return error.stack ?? error.message
  const words = sentence(error.message || error.name)
  // The errors are compared by name, because their classes are in modules of the server, which most commands do not
  // load.
  if (['SchemaError', 'SoleServerError', 'SeveralNamesError'].includes(error.name)) return words
  const advice = adviceOnDatabase(error)
  if (advice !== undefined) return `${words}\n${sentence(advice)}`
  return `${words}\n"npx doorbell doctor" looks for the cause; DOORBELL_LOG_LEVEL=debug shows the stack trace.`
}

/** Returns the problems of a configuration, and a hint if the settings are in a file that is not read. */
export function wordsForProblems({ message, problems }: ConfigError): string {
  const hint = hintOnEnvironmentFile(problems)
  return hint === undefined ? message : `${message}\n\n${capital(hint)}`
}

export function isDebugging(): boolean {
  return ['debug', 'trace'].includes(process.env.DOORBELL_LOG_LEVEL ?? '')
}

/** Returns the text as a sentence: it begins with a capital letter and ends with a full stop. */
export function sentence(text: string): string {
  const line = capital(text)
  return /[.!?]$/.test(line) ? line : `${line}.`
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
