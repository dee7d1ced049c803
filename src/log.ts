/** The log: one JSON object a line. Nothing secret is ever handed to it; the list below is the second fence. */
import { type DestinationStream, type Logger, pino } from 'pino'

export type Log = Logger

const neverLogged = [
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
]

/** @param destination where lines go; standard error unless told, so that standard output stays for answers */
export function createLog(
  level: string,
  destination: DestinationStream = pino.destination({ fd: 2, sync: true }),
): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: neverLogged.flatMap((name) => [name, `*.${name}`]), censor: '[secret]' },
      serializers: { error: describeError },
    },
    destination,
  )
}

/** An error as the log shows it: what and where, without the properties libraries hang on errors (they may hold request data). */
function describeError(error: unknown) {
  if (!(error instanceof Error)) return { message: String(error) }
  return { name: error.name, message: error.message, stack: error.stack }
}
