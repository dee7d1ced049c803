/** Builds the parts that all other parts use: database, clock, log, keys, texts, and outgoing calls. */
import { createDetailTypes } from '../authorization-details/detail-types.ts'
import type { Config } from '../config/config.ts'
import { createMetrics } from '../operations/metrics.ts'
import { type Audit, createAudit } from '../platform/audit.ts'
import type { Clock } from '../platform/clock.ts'
import { createVault } from '../platform/crypto.ts'
import { createLoadShedding } from '../platform/http/load-shedding.ts'
import { createGuardedCaller, type GuardedCaller } from '../platform/http/outgoing.ts'
import { loadTexts } from '../platform/i18n/texts.ts'
import { createKeySets } from '../platform/jose/key-sets.ts'
import type { Log } from '../platform/log.ts'
import { profiles } from '../platform/security-profile.ts'
import type { Database } from '../platform/storage/database.ts'
import { createDatabaseClock } from '../platform/storage/database-clock.ts'
import { createUnreadableReport } from '../platform/unreadable-values.ts'
import { routesNeverRefused, routesOfClients } from '../routes.ts'

/** The values that a server is built from. */
export interface Given {
  config: Config
  database: Database
  clock: Clock
  log: Log
}

export type Platform = ReturnType<typeof composePlatform>

export function composePlatform({ config, database, clock, log }: Given) {
  const metrics = createMetrics()
  const audit: Audit = createAudit({
    clock,
    log,
    listeners: [metrics.hear, ...(config.audit ? [config.audit] : [])],
    // In development, the configuration changes often, and the demo clients and users are added and removed again. So
    // the audit events of these changes are logged at level `info`, not at a higher level.
    isUsual: ({ by }) => config.development && by === 'configuration',
  })
  const onUnreadable = createUnreadableReport(log)
  const callers: GuardedCaller[] = []

  /**
   * Returns an HTTP client for untrusted addresses, which come from clients, browsers or other providers. The client is
   * closed when the server closes.
   */
  function openCaller(how: {
    allowPrivateNetworks: boolean
    timeoutMs?: number
    ca?: string | undefined
  }): GuardedCaller {
    const { allowPrivateNetworks, timeoutMs = config.notifications.timeout * 1000, ca } = how
    const limits = { timeout: timeoutMs, maxBytes: mostBytesRead, allowHttp: config.development }
    const caller = createGuardedCaller({ ...limits, allowPrivateNetworks, ca, clock })
    callers.push(caller)
    return caller
  }

  const openCallerToClients = () =>
    openCaller({
      allowPrivateNetworks: config.development || config.notifications.allowPrivateNetworks,
      ca: config.notifications.ca,
    })
  const toClients = openCallerToClients()
  // Unauthenticated callers can cause fetches of clients' documents. These fetches have their own limits for DNS
  // lookups and connections, so that they do not delay notifications.
  const toDocuments = openCallerToClients()
  const loadShedding = createLoadShedding({
    most: config.limits.inFlight,
    clients: routesOfClients,
    exempt: routesNeverRefused,
  })
  const openKeySets = () =>
    createKeySets({
      caller: toDocuments,
      releaseSlotWhile: loadShedding.releaseSlotWhile,
      keptInOutageMs: config.fetchedKeys.keepInOutage * 1000,
      clock,
    })

  return {
    config,
    database,
    clock,
    databaseClock: createDatabaseClock(clock, database),
    log,
    audit,
    metrics,
    loadShedding,
    vault: createVault(config.secret, onUnreadable),
    /** Reports stored values that cannot be read. */
    onUnreadable,
    texts: loadTexts(config.texts),
    profile: profiles[config.profile],
    details: detailTypesOf(config, log),
    /** Sends notifications to addresses that clients have registered. */
    toClients,
    /** Fetches the documents of clients: key sets (`jwks_uri`) and lists of URIs (`sector_identifier_uri`). */
    toDocuments,
    openCaller,
    /** The key sets of clients. */
    keySets: openKeySets(),
    /**
     * Returns an empty cache of key sets. The key sets of other issuers have a cache of their own, so that fetches of
     * clients' key sets cannot delay fetches of issuers' key sets.
     */
    openKeySets,
    async close(): Promise<void> {
      await Promise.all(callers.map((caller) => caller.close()))
    },
  }
}

function detailTypesOf({ authorizationDetails }: Config, log: Log) {
  return createDetailTypes(authorizationDetails.types, (type, error) =>
    log.error(
      { event: 'details.not_described', type, error },
      'authorization details could not be described; users are shown the fields as they are',
    ),
  )
}

/** Maximum number of bytes that are read from the response to an outgoing call. The largest responses are key sets. */
const mostBytesRead = 64 * 1024
