/** The log: one JSON object a line. Nothing secret is ever handed to it; the list below is the second fence. */
import { type DestinationStream, pino } from 'pino'
import { isoOf, systemClock } from './clock.ts'

/** A pino logger, and of it what the fence stands around: no children, and nothing that is put into a message. */
export interface Log {
  debug: Write
  info: Write
  warn: Write
  error: Write
  isLevelEnabled(level: string): boolean
}

type Write = (fields: object | string, message?: string) => void

const neverLogged = new Set([
  'auth_req_id',
  'authReqId',
  'client_notification_token',
  'notificationToken',
  'client_secret',
  'client_assertion',
  'login_hint',
  'login_hint_token',
  'id_token_hint',
  'user_code',
  'access_token',
  'refresh_token',
  'id_token',
  'token',
  'password',
  'authorization',
  'cookie',
])

/** @param destination where lines go; standard error unless told, so that standard output stays for answers */
export function createLog(level: string, destination: DestinationStream = standardError()): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${isoOf(systemClock.now())}"`,
      formatters: { log: (line) => hideSecrets(line, hideSecretsWithin) },
      serializers: { error: describeError },
    },
    destination,
  )
}

/**
 * Lines are written once a turn of the event loop, and when the process ends: writing each takes longer than making it.
 * A process that is killed takes along what it said in that turn.
 */
const standardError = once((): DestinationStream => {
  const out = pino.destination({ fd: 2, sync: true })
  let lines = ''
  const write = () => {
    const all = lines
    lines = ''
    if (all !== '') out.write(all)
  }
  process.once('exit', write)
  return {
    write(line) {
      if (lines === '') setImmediate(write)
      lines += line
    },
  }
})

function once<T>(make: () => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}

/**
 * What has a secret's name is hidden, and so it is one level deeper. pino's own `redact` says the same, and takes ten
 * times as long for it as the rest of a line takes; there is a line for nearly every call.
 */
function hideSecrets(line: Fields, within: (value: unknown) => unknown): Fields {
  let shown = line
  for (const name in line) {
    const value = line[name]
    // Of an error only what is safe is described anyway.
    const safe = neverLogged.has(name) ? '[secret]' : name === 'error' ? value : within(value)
    if (safe === value) continue
    if (shown === line) shown = { ...line }
    shown[name] = safe
  }
  return shown
}

type Fields = Record<string, unknown>

function hideSecretsWithin(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? hideSecrets(value as Fields, asItIs) : value
}

const asItIs = (value: unknown) => value

/** An error as the log shows it: what and where, without the properties libraries hang on errors (they may hold request data). */
function describeError(error: unknown) {
  if (!(error instanceof Error)) return { message: String(error) }
  return { name: error.name, message: error.message, stack: error.stack }
}
