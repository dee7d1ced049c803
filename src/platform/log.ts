/**
 * The log: one JSON object per line. Callers must not pass secrets to the log. As a second safeguard, the values of
 * members with certain names (`neverLogged`) are hidden.
 */
import { type DestinationStream, pino } from 'pino'
import { isoOf, systemClock } from './clock.ts'

/**
 * The part of pino's interface for which secrets are hidden. It has neither child loggers nor placeholders in messages
 * (`%s`), because secrets in them would not be hidden.
 */
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

/**
 * @param destination where lines are written: by default standard error, so that standard output contains only results
 */
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
 * Collects lines, and writes them once in each turn of the event loop and when the process exits, because writing a
 * line takes longer than creating the line. A process that is killed loses the lines of its last turn.
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
 * Hides the values of members whose name is in `neverLogged`, in the line itself and one level deeper. pino's own
 * `redact` is not used, because it takes ten times as long as all other work on a line. Nearly every call of the server
 * writes a line.
 */
function hideSecrets(line: Fields, within: (value: unknown) => unknown): Fields {
  let shown = line
  for (const name in line) {
    const value = line[name]
    // `describeError` has already reduced the error to safe properties.
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

/** Reduces an error to name, message and stack. Other properties, added by libraries, may contain data of a request. */
function describeError(error: unknown) {
  if (!(error instanceof Error)) return { message: String(error) }
  return { name: error.name, message: error.message, stack: error.stack }
}
