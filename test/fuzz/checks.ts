/** What must hold of every answer, whatever was sent. */
import { mayBeMet, type Shot } from './shot.ts'
import type { Heard } from './wire.ts'

/** What is wrong with an answer, in a few words that are the same for the same fault; nothing if it is right. */
export function faultOf(shot: Shot, heard: Heard): string | undefined {
  if (heard.kind === 'silence') return 'no answer in time'
  if (heard.kind === 'closed') {
    return mayBeMet(shot) === 'only by an answer' ? 'the connection was closed without an answer' : undefined
  }
  const { status } = heard
  if (status < 200 || status > 499) return `answered ${status}`
  return status >= 400 && shot.method !== 'HEAD' ? faultOfError(heard) : undefined
}

function faultOfError({ status, headers, body }: Heard): string | undefined {
  // Node itself answers what is no HTTP/1.1, without a word.
  if (body === '' && (status === 417 || (status === 400 && headers.get('connection') === 'close'))) return undefined
  const type = headers.get('content-type')?.split(';')[0]
  if (type === 'application/json') return isErrorJson(body) ? undefined : `a ${status} whose JSON names no error`
  if (type === 'text/html') return /^\s*<!doctype html/i.test(body) ? undefined : `a ${status} whose HTML is none`
  return `a ${status} of type ${type ?? 'none'}`
}

function isErrorJson(body: string): boolean {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    return typeof error === 'string' && error !== ''
  } catch {
    return false
  }
}

interface LogLine {
  level: number
  msg?: string
  audit?: boolean
  error?: { message?: string }
}

/** A line of the log that nobody wants to find there. */
export function faultOfLine(line: string, isSecret: (word: string) => boolean): string | undefined {
  const words = line.match(/[\w~+/=.-]{12,}/g) ?? []
  const leaked = words.some((word) => isSecret(word) || word.split(/[.=/+]/).some(isSecret))
  if (leaked) return 'a secret in the log'
  const { level, msg, error, audit } = JSON.parse(line) as LogLine
  // What the audit tells is no error of ours, however weighty: a notification that nobody takes is parked.
  return level >= 50 && audit !== true
    ? `logged as an error: ${msg} (${error?.message?.split('\n')[0] ?? ''})`
    : undefined
}
