/** What a command says when it cannot do what it was asked. */
import { CommanderError } from 'commander'
import { ConfigError } from '../../platform/validation.ts'
import { colour } from './terminal.ts'

/** A command that cannot go on. The message is one or a few plain sentences and says what to do next. */
export class Failure extends Error {
  override readonly name: string = 'Failure'
  readonly exitCode: number

  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export function explain(error: unknown): { text: string; exitCode: number } {
  // Commander has said everything itself.
  if (error instanceof CommanderError) return { text: '', exitCode: error.exitCode }
  const exitCode = error instanceof Failure ? error.exitCode : 1
  return { text: `${colour('red', wordsFor(error), process.stderr)}\n`, exitCode }
}

function wordsFor(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (isDebugging()) return error.stack ?? error.message
  if (error instanceof Failure || error instanceof ConfigError) return error.message
  const words = sentence(error.message || error.name)
  // By name, because the classes live beside the server, which most commands need not load.
  if (['SchemaError', 'SoleServerError', 'SeveralNamesError'].includes(error.name)) return words
  return `${words}\n"npx doorbell doctor" looks for the cause; DOORBELL_LOG_LEVEL=debug shows the stack trace.`
}

export function isDebugging(): boolean {
  return ['debug', 'trace'].includes(process.env.DOORBELL_LOG_LEVEL ?? '')
}

/** With a capital letter and a full stop. */
export function sentence(text: string): string {
  const line = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(line) ? line : `${line}.`
}
