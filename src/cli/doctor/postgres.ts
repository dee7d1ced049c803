/** `doorbell doctor`: checks how connections to Postgres are protected. */
import type { Config } from '../../config/config.ts'
import { isOnThisMachine, nameOfHost, readPostgresUrl, type SslMode } from '../../platform/storage/postgres-address.ts'
import type { Finding } from './finding.ts'

/** How connections are protected with each `sslmode` that does not protect them completely, as part of a sentence. */
const weaknesses: Partial<Record<SslMode, string>> = {
  disable: 'are not encrypted',
  allow: 'are not encrypted unless the database demands it, and its certificate is not checked',
  prefer: 'are encrypted only if the database offers it, and its certificate is not checked',
  require: 'are encrypted, but the certificate of the database is not checked',
  'no-verify': 'are encrypted, but the certificate of the database is not checked',
  'verify-ca': 'are encrypted, but any certificate of the authority is accepted, whatever name it has',
}

export function examineProtection({ database }: Config): Finding[] {
  if (database.startsWith('sqlite:')) return []
  const about = 'encryption'
  const { hosts, sslMode, parameters } = readPostgresUrl(database)
  const away = hosts.filter((host) => !isOnThisMachine(host))
  const hasAuthority = parameters.has('sslrootcert')
  const weakness = weaknesses[sslMode === 'require' && hasAuthority ? 'verify-ca' : sslMode]
  if (away.length === 0 || weakness === undefined) return []
  return [
    {
      about,
      state: 'warn',
      says: `connections to ${away.map(nameOfHost).join(', ')} ${weakness} (sslmode=${sslMode})`,
      advice: 'add sslmode=verify-full to the database URL, and sslrootcert=<file> if the authority is your own',
    },
  ]
}
