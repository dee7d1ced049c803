/**
 * Builds the whole server from configuration, database, clock and log. Each part of the server is built by a file in
 * `composition/`. This file calls them in order of dependency.
 */
import type { FastifyPluginAsync } from 'fastify'
import type { createDeviceApi } from './authentication-device/api/in-process-api.ts'
import { forTheApplication } from './composition/application.ts'
import { composeChannels } from './composition/channels.ts'
import { addCibaRoutes, type CibaNeeds, composeCiba } from './composition/ciba.ts'
import { addClientRoutes, composeClients } from './composition/clients.ts'
import { addConsentApp, sendTo } from './composition/consent-app.ts'
import { addDevelopmentRoutes } from './composition/development.ts'
import { addDeviceRoutes, composeDeviceApi } from './composition/device.ts'
import { composeHttpServer } from './composition/http-server.ts'
import { addOpenidRoutes, composeOpenidProvider } from './composition/openid-provider.ts'
import { addOperationsRoutes, composeWork, warnOfWeakSettings } from './composition/operations.ts'
import { composeOutbox } from './composition/outbox.ts'
import { composePlatform, type Given } from './composition/platform.ts'
import { composeRequests } from './composition/requests.ts'
import { composeSigningKeys } from './composition/signing-keys.ts'
import { composeUserHints, composeUsers } from './composition/users.ts'
import type { Config } from './config/config.ts'
import { type Clock, systemClock } from './platform/clock.ts'
import type { CallerTimeouts } from './platform/http/answer.ts'
import { createEnding } from './platform/http/life.ts'
import { asPlugin, createHandler, type Handler } from './platform/http/mount.ts'
import { createLog, type Log } from './platform/log.ts'
import { firstMigration, migrate, refuseOtherSchema } from './platform/storage/migrate.ts'
import { openDatabase } from './platform/storage/open.ts'
import type { PasswordParts } from './user/password/password-hashing.ts'

/** Options for `createDoorbell`, besides the configuration. All of them may be left out. */
export interface DoorbellOptions {
  clock?: Clock
  log?: Log
  /** Whether the database is first migrated to the schema of this version. A SQLite database is always migrated. */
  migrate?: boolean
  /**
   * Whether this process sends notifications and settles expired requests. Default: true. It must be true in at least
   * one process on the same database.
   */
  workers?: boolean
  /** For tests: replaces the function that opens the database, so that the connection can be slow or cut. */
  openDatabase?: typeof openDatabase
  /** For tests: replaces the time that callers have to send a request. */
  callerPatience?: CallerTimeouts
  /** For tests: replaces the hashing of passwords and user codes, for instance by a cheap or a delayed hash. */
  passwords?: PasswordParts
}

/** A running Doorbell. */
export interface Doorbell {
  /**
   * For `http.createServer`, Express, Koa or Nest: responds to every address of Doorbell. It passes other requests to
   * `next`, or answers them with 404 if there is no `next`. It may be mounted before or after a body parser.
   *
   * @example
   * express().use(doorbell.handler)
   */
  handler: Handler
  /** A Fastify plugin that adds every Doorbell route to your own server. Routes that your server has already are kept. */
  fastify: FastifyPluginAsync
  /** For your own code: lists the requests of a user, and decides them. */
  requests: ReturnType<typeof createDeviceApi>
  /** For an application that supplies the users: functions that sign out or remove a user, each in one transaction. */
  users: {
    /** Signs a user out: ends all sessions and all tokens, including the tokens of approved requests. Pending requests stay. */
    signOut(userId: string): Promise<void>
    /** Removes the sessions, tokens, passkeys and subscriptions of a user whom you have removed. Open requests are denied. */
    end(userId: string): Promise<void>
  }
  /** Listens on the configured host and port. Resolves to the address. */
  listen(options?: { host?: string; port?: number }): Promise<string>
  /**
   * Resolves when no notification is due or being sent, and this server has written all pending changes to the
   * database.
   */
  idle(): Promise<void>
  /**
   * Settles expired requests now, and denies the requests of users whom the hook `users.find` no longer returns.
   * Resolves to the number of settled requests.
   */
  sweep(): Promise<number>
  /** Removes finished rows that are older than `retention` allows. Resolves to the number of removed rows. */
  prune(): Promise<number>
  /**
   * Shuts the server down. The server first announces the shutdown (`/health/ready`, `Connection: close`) and continues
   * to serve for `delay` seconds, so that load balancers notice the shutdown. Then it stops accepting connections,
   * finishes running work, leaves the remaining work to other nodes, and closes the database. A second call without
   * `delay` ends the delay at once.
   */
  close(options?: { delay?: number }): Promise<void>
}

/**
 * Resolves to a complete CIBA provider on the configured database. Its workers are running, except if `workers` is
 * false.
 *
 * @throws if the database cannot be reached. Without `migrate`, also if the database does not have the schema of this
 *   version
 * @example
 * const doorbell = await createDoorbell(await loadConfig({ file: 'doorbell.config.ts' }))
 * http.createServer(doorbell.handler).listen(4000)
 */
export async function createDoorbell(config: Config, parts: DoorbellOptions = {}): Promise<Doorbell> {
  const clock = parts.clock ?? systemClock
  const log = parts.log ?? createLog(config.logLevel)
  const { connections } = config.postgres
  const open = parts.openDatabase ?? openDatabase
  const database = await open(config.database, { log, clock, serves: true, connections })
  try {
    const applied = database.engine === 'sqlite' || parts.migrate ? await migrate(database, clock) : []
    // The log says that the database is new, because the address of the database may be mistyped. The server would then
    // run without the expected users and clients.
    if (applied.includes(firstMigration) && config.database !== 'sqlite::memory:')
      log.info({ event: 'database.created' }, 'the database was empty; its tables were created')
    await refuseOtherSchema(database)
    return await compose({ config, database, clock, log }, parts)
  } catch (error) {
    await database.close()
    throw error
  }
}

async function compose(given: Given, parts: DoorbellOptions): Promise<Doorbell> {
  const { config, clock } = given
  const platform = composePlatform(given)
  const signingKeys = await composeSigningKeys(platform)
  const clients = await composeClients(platform)
  const outbox = composeOutbox(platform)
  const users = await composeUsers(platform, outbox, parts.passwords)
  const hints = composeUserHints(platform, users, clients, signingKeys)
  const openid = composeOpenidProvider(platform, clients, users, signingKeys)
  const stored = composeRequests(platform, outbox)
  const channels = await composeChannels(platform, clients, users, stored)
  const needs: CibaNeeds = { platform, clients, signingKeys, users, hints, openid, stored, channels, outbox }
  const ciba = composeCiba(needs)
  const device = composeDeviceApi(needs)
  const work = composeWork(needs, { ciba, device, signingKeys })

  // Only the demo shows the consent pages in a frame. On the page of the demo, the frame stands for the phone.
  const framing = channels.demoWire ? 'self' : 'none'
  const { app, routes, basePaths } = composeHttpServer(platform, parts.callerPatience)
  const send = sendTo(app)
  addCibaRoutes(app, needs, ciba)
  addDeviceRoutes(app, needs, ciba, device)
  addOpenidRoutes(app, { platform, clients, users, openid, framing })
  addClientRoutes(app, { platform, clients, provider: openid.provider, hasUserCodes: users.hasUserCodes })
  await addConsentApp(app, needs, { send, framing })
  addOperationsRoutes(app, needs)
  addDevelopmentRoutes(app, needs, ciba, send)
  await app.ready()

  work.start({ works: parts.workers ?? true })
  warnOfWeakSettings(needs)

  const close = createEnding({
    clock,
    announce() {
      app.life.announceEnd()
      stored.heldPolls.close()
    },
    async end() {
      // This is the system clock, not the injected clock, because a supervisor waits in real time for this process to end.
      const cutOff = systemClock.after(shutdownTimeoutMs, () => app.server.closeAllConnections())
      const answered = app.life.quiet(shutdownTimeoutMs)
      await Promise.all([app.close(), answered, work.stop(shutdownTimeoutMs)])
      cutOff()
      app.life.over()
      await Promise.all([platform.close(), users.close(), channels.close()])
      await stored.pending.close()
      await given.database.close()
    },
  })
  return {
    handler: createHandler(app, { routes, basePaths }, given.log),
    fastify: asPlugin(app, routes),
    listen: ({ host = config.host, port = config.port } = {}) => app.listen({ host, port }),
    close,
    ...forTheApplication(needs, ciba, work),
  }
}

/** At shutdown, responses and notifications that are in progress get at most this many milliseconds to finish. */
const shutdownTimeoutMs = 4_000

export { ProfileError } from './platform/security-profile.ts'
export { SchemaError } from './platform/storage/migrate.ts'
