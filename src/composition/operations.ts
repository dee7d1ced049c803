/** Builds the background work (expiry, removal by age), and the health routes, metrics and warnings for operators. */
import type { FastifyInstance } from 'fastify'
import { createForgetUndelivered } from '../ciba/client-notification/undelivered-push.ts'
import { createAbsentUsers } from '../ciba/decision/absent-users.ts'
import { createExpirySweep, type Forget, type OldRows } from '../ciba/decision/expiry-sweep.ts'
import { longestHold } from '../ciba/token-endpoint/long-poll.ts'
import { weakValues } from '../config/weak-values.ts'
import { healthEndpoint } from '../operations/health-endpoint.ts'
import { metricsEndpoint } from '../operations/metrics-endpoint.ts'
import { createPruning } from '../operations/pruning.ts'
import { createReadinessStore } from '../operations/readiness-store.ts'
import { type Ciba, type CibaNeeds, undeliveredNeedsOf } from './ciba.ts'
import type { DeviceApi } from './device.ts'
import type { SigningKeys } from './signing-keys.ts'

/** The parts, besides `CibaNeeds`, that the background work needs. */
export interface LookedAfter {
  ciba: Ciba
  device: DeviceApi
  signingKeys: SigningKeys
}

/** Milliseconds for which a parked notification keeps its content, so that an operator can retry the notification. */
const parkedKeepContentMs = 24 * 3600_000

/**
 * Milliseconds for which rows that prevent replay and guessing are kept after they have expired. These are the rows of
 * used assertions, DPoP proofs and signed requests, of counted attempts, and of ended sessions. A node whose clock is
 * behind may still need such rows. A node whose clock is ahead for a moment must not remove such rows too early.
 */
const protectsLongerMs = 3600_000

/** Returns a `Forget` that removes rows `protectsLongerMs` milliseconds later than `forget`. */
function late(forget: Forget): Forget {
  return (now, atMost) => forget(now - protectsLongerMs, atMost)
}

export type Work = ReturnType<typeof composeWork>

/** Returns all background work, which is started and stopped together. */
export function composeWork(needs: CibaNeeds, around: LookedAfter) {
  const { ciba, signingKeys } = around
  const { outbox, platform } = needs
  const sweep = composeExpirySweep(needs, around)
  // This task looks for users whom the application no longer supplies. The task is needed only if an application
  // supplies the users. Otherwise, users who are deleted from the configuration are removed at the next start, and all
  // other users are removed by command.
  const absentUsers = Array.isArray(platform.config.users) ? undefined : createAbsentUsers(ciba.decisionNeeds)
  const pruning = composePruning(needs)
  return {
    sweep,
    absentUsers,
    pruning,
    /**
     * Starts the work.
     *
     * @param options.works if false, this process only follows changes of the signing keys, and another process must do
     *   the rest of the work
     */
    start({ works }: { works: boolean }): void {
      signingKeys.watch.start({ rotates: works })
      if (!works) return
      outbox.worker.start(ciba.senders)
      sweep.start()
      absentUsers?.start()
      pruning.start()
    },
    async stop(timeoutMs: number): Promise<void> {
      const tasks = [sweep, absentUsers, pruning, signingKeys.watch].map((task) => task?.stop())
      await Promise.all([...tasks, outbox.worker.stop(timeoutMs)])
    },
  }
}

/** Returns the task that settles expired requests and removes rows that are needed only for a certain time. */
function composeExpirySweep(needs: CibaNeeds, { ciba, device, signingKeys }: LookedAfter) {
  const { platform, clients, users, openid, stored, outbox } = needs
  const { config, databaseClock } = platform
  const forgetUndelivered = createForgetUndelivered(undeliveredNeedsOf(needs))
  const forgetParked: Forget = async (now, atMost) => {
    // `forgetUndelivered` comes first, because its transaction erases the content of a push and revokes the tokens in
    // this content. If this transaction fails, `eraseParked` must not erase the content.
    await forgetUndelivered(now - parkedKeepContentMs)
    return outbox.store.eraseParked(now - parkedKeepContentMs, atMost)
  }
  const kinds = [
    { what: 'passkey challenges', forget: users.passkeyChallenges.forgetExpired },
    { what: 'contents of undelivered notifications', forget: forgetParked },
    { what: 'initial access tokens', forget: clients.initialAccess.forgetExpired },
    { what: 'registration attempts', forget: late(clients.registrationAttempts.forgetOld) },
    { what: 'signing keys', forget: allAtOnce(signingKeys.store.forgetRemoved) },
    { what: 'pauses after denials', forget: stored.denialPauses.forgetOver },
    { what: 'sign-in attempts', forget: late(users.signInAttempts.forgetOld) },
    { what: 'unknown users', forget: late(stored.unknownUsers.forgetOld) },
    {
      what: 'attempts at user codes',
      forget: late((now, atMost) => users.userCodes.forgetTries(now - config.userCodes.lockSeconds * 1000, atMost)),
    },
    {
      what: 'ended sessions',
      forget: late((now, atMost) => openid.endedSessions.forget(now - config.sessions.absoluteTtl * 1000, atMost)),
    },
    { what: 'sessions in lists', forget: device.userSessions.forget },
  ] satisfies OldRows[]
  return createExpirySweep(
    ciba.decisionNeeds,
    kinds.map(({ what, forget }) => ({ what, forget: (_, atMost) => forget(databaseClock.earliestNow(), atMost) })),
  )
}

/**
 * Returns a `Forget` that calls `remove` and always resolves to 0, so that the sweep does not call it again
 * immediately. Use this function if one call of `remove` removes all rows that are old enough.
 */
function allAtOnce(remove: (now: number) => Promise<void>): Forget {
  return async (now) => {
    await remove(now)
    return 0
  }
}

/** Returns the task that removes finished rows by age. */
function composePruning({ platform, clients, users, openid, stored, outbox }: CibaNeeds) {
  const { clock, databaseClock } = platform
  const { retention } = platform.config
  const { requests, signedRequests, decisions } = stored
  return createPruning({
    kept: [
      { what: 'used assertions', days: 0, forget: late(clients.usedAssertions.forgetExpired) },
      { what: 'tokens and sessions', days: 0, forget: openid.models.forgetExpired },
      { what: 'erased users', days: 0, forget: users.erasures.complete },
      { what: 'notifications', days: retention.notifications, forget: outbox.store.forgetSettled },
      { what: 'requests', days: retention.requests, forget: requests.forgetFinished },
      { what: 'signed requests', days: retention.signedRequests, forget: signedRequests.forget },
      { what: 'history', days: retention.history, forget: decisions.forget },
    ],
    clock: { now: databaseClock.earliestNow, after: (milliseconds, callback) => clock.after(milliseconds, callback) },
    log: platform.log,
  })
}

const loopback = ['127.0.0.0/8', '::1']

/** Adds the health routes and, if `metrics.enabled` is set, `/metrics`. */
export function addOperationsRoutes(app: FastifyInstance, { platform, users, stored, outbox }: CibaNeeds): void {
  const { config, database, metrics, clock } = platform
  healthEndpoint(app, { database, readiness: createReadinessStore({ database, clock }) })
  if (!config.metrics.enabled) return
  // In development, callers on the same machine may also read the metrics.
  const from = [...config.metrics.from, ...(config.development ? loopback : [])]
  metricsEndpoint(app, '/metrics', {
    metrics,
    access: { ...config.metrics, from },
    countOpen: stored.requests.countOpen,
    countHeldPolls: stored.heldPolls.count,
    countHashingPlaces: () => users.credentialQueue.counts().places,
    outbox: outbox.store,
    clock,
  })
}

/** Logs, when the server starts, the settings that an operator should change. */
export function warnOfWeakSettings({ platform, users, channels }: CibaNeeds): void {
  const { config, log } = platform
  for (const { setting, problem } of config.unused ?? []) {
    log.warn({ event: 'config.unused_member', setting }, `${setting} ${problem}`)
  }
  for (const { setting, problem, isKey, advice } of weakValues(config)) {
    log[isKey ? 'error' : 'warn']({ event: 'config.weak_value', setting, advice }, `the ${setting} ${problem}`)
  }
  if (config.requests.longPoll > longestHold) {
    log.warn(
      { event: 'config.shortened', setting: 'requests.longPoll', given: config.requests.longPoll, used: longestHold },
      `requests.longPoll is ${config.requests.longPoll}, but polls are held for ${longestHold} seconds at most, because many clients give up after 30 seconds`,
    )
  }
  if (users.checkPassword === undefined && config.login.issuer === 'self') {
    log.warn(
      { event: 'users.no_password_check' },
      'users has no hook verifyPassword, so only users with a passkey can sign in here; add the hook, or set login.issuer',
    )
  }
  if (channels.channels.length === 0) {
    log.warn(
      { event: 'device.no_channel' },
      'no channel notifies users of requests; their app has to poll /backchannel/authinfo',
    )
  }
}
