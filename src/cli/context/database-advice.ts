/** What an operator does about an error of the database, by the code of the error. */

/** By SQLSTATE of Postgres. */
const bySqlState: Record<string, string> = {
  '28P01':
    'correct the user or the password in "database" (DOORBELL_DATABASE). In a URL, special characters are percent-encoded',
  '28000':
    'permit the user of "database" (DOORBELL_DATABASE) to log in from this machine: "login" of the role, and pg_hba.conf',
  '3D000': 'create the database, or correct the setting "database" (DOORBELL_DATABASE)',
  '53300':
    'Postgres has no connection left: close those of other programs, lower "postgres.connections" of the servers, or raise max_connections',
  '53100': 'the disk of Postgres is full: free some space on it. Nothing else has to be repaired',
  '25006':
    'Postgres accepts no changes. If it is a standby, use the primary, or promote it; if not, switch off default_transaction_read_only',
  '57P03': 'Postgres is starting or stopping: try again in a little while',
  '57P01': 'Postgres has ended the connection: try again in a little while',
}

/** By primary result code of SQLite. A primary code is the low byte of an extended code. */
const bySqliteCode: Record<number, string> = {
  5: 'another program locks the file: end it, or wait until it has finished',
  8: 'permit this user to write to the file of the database and to its folder',
  10: 'the disk reports an error: look at the log of the operating system, and check the disk',
  11: 'the file is damaged: stop the server, and restore the newest backup',
  13: 'the disk of the database is full: free some space on it. Nothing else has to be repaired',
  14: 'the folder of the database must exist, and this user must be permitted to write to it',
  26: 'the setting "database" (DOORBELL_DATABASE) names a file that is not a database: correct it, or restore the newest backup',
}

const unknownHost = 'the host in "database" (DOORBELL_DATABASE) is not known: correct it, or check the name servers'
const noRoute = 'the host in "database" (DOORBELL_DATABASE) does not answer: check the host, the network and firewalls'

/** By error code of Node: network and certificates. */
const bySystemCode: Record<string, string> = {
  ECONNREFUSED: 'no database listens there: start it, or correct host and port in "database" (DOORBELL_DATABASE)',
  ENOENT: 'there is no database at this socket: start it, or correct the setting "database" (DOORBELL_DATABASE)',
  ENOTFOUND: unknownHost,
  EAI_AGAIN: unknownHost,
  ETIMEDOUT: noRoute,
  EHOSTUNREACH: noRoute,
  ENETUNREACH: noRoute,
  CERT_HAS_EXPIRED: 'renew the certificate of the database',
  ERR_TLS_CERT_ALTNAME_INVALID: 'name the database by a host that its certificate contains',
}

const otherAuthority = 'name the authority of the certificate of the database by sslrootcert=<file> in "database"'

/**
 * Returns what to do about an error of the database, as a sentence without capital letter and full stop, or undefined if
 * the code of the error is not known. The code may be in the cause of the error.
 */
export function adviceOnDatabase(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, errcode, syscall } = error as { code?: unknown; errcode?: unknown; syscall?: unknown }
  // ENOENT of another call means that a file is missing, which may be any file.
  if (code === 'ENOENT' && syscall !== 'connect') return undefined
  const advice =
    code === 'ERR_SQLITE_ERROR' ? bySqliteCode[Number(errcode) & 0xff] : adviceOnCode(String(code), error.message)
  return advice ?? adviceOnDatabase(error instanceof AggregateError ? error.errors[0] : error.cause)
}

function adviceOnCode(code: string, message: string): string | undefined {
  if (/SELF_SIGNED_CERT|^UNABLE_TO_(VERIFY|GET_ISSUER)/.test(code)) return otherAuthority
  if (/^timeout expired$|^timeout exceeded when trying to connect$/.test(message)) return noRoute
  return bySqlState[code] ?? bySystemCode[code]
}
