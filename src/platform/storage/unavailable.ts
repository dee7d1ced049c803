/**
 * Recognises failures of the database that are temporary, or that an operator can repair outside Doorbell. After such a
 * failure, the operation may be tried again, and other nodes may be able to execute it. All other failures of the
 * database are bugs.
 */

/** By SQLSTATE, with the meaning. A key of two characters stands for a whole class, a key of five for one code. */
const sqlStates: Record<string, string> = {
  '08': 'the connection broke or could not be opened; 08007: it is unknown whether a commit happened',
  '0A000': 'a plan from before a migration, or an operation that a standby does not support',
  '25006': 'read-only: a standby, or `default_transaction_read_only`',
  '25P03': 'the transaction was idle for too long',
  '25P04': 'the transaction took too long',
  '28': 'the password was changed, or the role may not log in, or not from this host',
  '3D000': 'the database does not exist: perhaps it is being restored',
  '40': 'serialization failures and deadlocks, after the retries',
  '53': 'the disk is full, or memory or connections are exhausted',
  '55000': 'the database accepts no connections',
  '55006': 'an object is in use',
  '55P03': 'a lock was not available in time',
  '57': 'cancelled, timed out, shutting down, starting up or crashed',
  '58': 'the disk or the operating system of Postgres failed',
}

/** Primary result codes of SQLite. A primary code is the low byte of an extended code. */
const sqliteCodes: Record<number, string> = {
  5: 'SQLITE_BUSY',
  6: 'SQLITE_LOCKED',
  7: 'SQLITE_NOMEM',
  8: 'SQLITE_READONLY',
  9: 'SQLITE_INTERRUPT',
  10: 'SQLITE_IOERR',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  15: 'SQLITE_PROTOCOL',
  17: 'SQLITE_SCHEMA',
}

/** Error codes of Node: network, name resolution, exhausted files and sockets, certificates of the database server. */
const systemErrors = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EADDRNOTAVAIL', 'ENOBUFS'],
  ...['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN', 'ENETRESET', 'ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL'],
  ...['EMFILE', 'ENFILE', 'ENOMEM', 'ENOSPC', 'EDQUOT', 'EROFS', 'EIO'],
  ...['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN'],
  ...['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'ERR_TLS_CERT_ALTNAME_INVALID'],
])

/** Messages of errors that have no code: errors of `pg`, of its pool and of this folder. */
const messages =
  /^Connection terminated|^timeout exceeded when trying to connect$|^timeout expired$|^Query read timeout$|is not queryable$|^SASL: |^The server does not support SSL connections$|^the database is closed$/

/** Returns whether the error means that the database cannot be used at the moment. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, errcode, syscall } = error as { code?: unknown; errcode?: unknown; syscall?: unknown }
  if (code === 'ERR_SQLITE_ERROR') return (Number(errcode) & 0xff) in sqliteCodes
  const state = String(code)
  if (/^[0-9A-Z]{5}$/.test(state) && (state in sqlStates || state.slice(0, 2) in sqlStates)) return true
  return systemErrors.has(state) || syscall === 'connect' || syscall === 'getaddrinfo' || messages.test(error.message)
}
