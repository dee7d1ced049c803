/** What must hold for every response, whatever was sent. */
import { mayBeMet, type Shot } from './shot.ts'
import type { Heard } from './wire.ts'

/** Returns what is wrong with a response, in the same few words for the same fault, or undefined if it is correct. */
export function faultOf(shot: Shot, heard: Heard): string | undefined {
  if (heard.kind === 'silence') return 'no answer in time'
  if (heard.kind === 'closed') {
    return mayBeMet(shot) === 'only by an answer' ? 'the connection was closed without an answer' : undefined
  }
  const { status } = heard
  if (status < 200 || status > 499) return `answered ${status}`
  // RFC 9110 §15.5.2
  if (status === 401 && !heard.headers.has('www-authenticate')) return 'a 401 without WWW-Authenticate'
  return status >= 400 && shot.method !== 'HEAD' ? faultOfError(heard) : undefined
}

function faultOfError({ status, headers, body }: Heard): string | undefined {
  // Node itself answers requests that are not HTTP/1.1, with an empty body.
  if (body === '' && (status === 417 || (status === 400 && headers.get('connection') === 'close'))) return undefined
  const type = headers.get('content-type')?.split(';')[0]
  if (type === 'application/json')
    return isErrorJson(status, body) ? undefined : `a ${status} whose JSON names no error`
  if (type === 'text/html') return /^\s*<!doctype html/i.test(body) ? undefined : `a ${status} whose HTML is none`
  return `a ${status} of type ${type ?? 'none'}`
}

/** The statuses with which Fastify answers a message that cannot be parsed. */
const fastifys = [400, 408, 431]

function isErrorJson(status: number, body: string): boolean {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    // Fastify itself answers a message that cannot be parsed, and names the status, such as "Bad Request".
    return typeof error === 'string' && (fastifys.includes(status) ? error !== '' : /^[a-z_]+$/.test(error))
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

/** Returns what is wrong with a line of the log, or undefined. */
export function faultOfLine(line: string, isSecret: (word: string) => boolean): string | undefined {
  const words = line.match(/[\w~+/=.-]{12,}/g) ?? []
  const leaked = words.some((word) => isSecret(word) || word.split(/[.=/+]/).some(isSecret))
  if (leaked) return 'a secret in the log'
  const { level, msg, error, audit } = JSON.parse(line) as LogLine
  // An audit event is not an error of the server, whatever its level: a parked notification, for example.
  return level >= 50 && audit !== true
    ? `logged as an error: ${msg} (${error?.message?.split('\n')[0] ?? ''})`
    : undefined
}
