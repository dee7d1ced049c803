/**
 * Builds the device API, by which users see and decide their requests, and manage their passkeys, user codes, push
 * subscriptions and sessions.
 */
import type { FastifyInstance } from 'fastify'
import { activityEndpoint } from '../authentication-device/api/activity-endpoint.ts'
import { createAuthenticateApproval } from '../authentication-device/api/approval-strength.ts'
import { createIdentifyCaller } from '../authentication-device/api/device-caller.ts'
import { deviceEndpoint } from '../authentication-device/api/device-endpoint.ts'
import { mostAttempts, passkeyEndpoint } from '../authentication-device/api/passkey-endpoint.ts'
import { pushSubscriptionEndpoint } from '../authentication-device/api/push-subscription-endpoint.ts'
import { sessionEndpoint } from '../authentication-device/api/session-endpoint.ts'
import { userCodeEndpoint } from '../authentication-device/api/user-code-endpoint.ts'
import { createUserSessionStore } from '../endings/user-session-store.ts'
import { createUserSessions } from '../endings/user-sessions.ts'
import { endpoints } from '../routes.ts'
import type { Ciba, CibaNeeds } from './ciba.ts'

export type DeviceApi = ReturnType<typeof composeDeviceApi>

export function composeDeviceApi(needs: CibaNeeds) {
  const { platform, clients, users, hints, openid } = needs
  const { authenticateClient, certificateOf, proofs } = clients
  return {
    userSessions: createUserSessionStore(platform.database),
    identifyCaller: createIdentifyCaller({
      provider: openid.provider,
      clients: clients.clients,
      users: users.users,
      authenticateClient,
      certificateOf,
      proofs,
      findUser: hints.findUserByHint,
      whileUnproven: platform.loadShedding.whileUnproven,
      returningUsers: openid.returningUsers,
    }),
  }
}

export function addDeviceRoutes(app: FastifyInstance, needs: CibaNeeds, ciba: Ciba, device: DeviceApi): void {
  addDecisionRoutes(app, needs, ciba, device)
  addAccountRoutes(app, needs, device)
}

/** Adds the routes for open requests, decisions and the history. */
function addDecisionRoutes(app: FastifyInstance, needs: CibaNeeds, ciba: Ciba, { identifyCaller }: DeviceApi): void {
  const { platform, users, stored, channels } = needs
  const { clients } = needs.clients
  const { details, clock, audit, log } = platform
  const { requests, decisions, blockedClients } = stored
  const { decide, revokeApproval, blockClient } = ciba
  deviceEndpoint(app, endpoints, {
    numbers: channels.numbers,
    identifyCaller,
    requests,
    clients,
    decide,
    authenticateApproval: createAuthenticateApproval({ passkeys: users.passkeys, clients, clock }),
    details,
    clock,
    log,
  })
  activityEndpoint(app, endpoints, {
    identifyCaller,
    requests,
    decisions,
    revokeApproval,
    blockClient,
    clients,
    blockedClients,
    details,
    clock,
    audit,
    log,
  })
}

/** Adds the routes for passkeys, user codes, push subscriptions and sessions. */
function addAccountRoutes(app: FastifyInstance, needs: CibaNeeds, device: DeviceApi): void {
  const { platform, clients, users: ours, openid, stored, channels } = needs
  const { config, vault, clock, databaseClock, audit } = platform
  const { users, passkeys, ownCode, checkPassword, passwordTryThrottle: throttle } = ours
  const { identifyCaller, userSessions: store } = device
  const { requests, userKey } = stored
  const { subscriptions } = channels
  const signsInHere = config.login.issuer === 'self'
  const common = { identifyCaller, users, noticesOfChange: channels.noticesOfChange, clock, audit }
  // Attempts to add a passkey are counted for an hour, in the table that also counts attempts of clients to register.
  // Here the key of the row is a hash of the user id.
  const countAttempt = (userId: string) =>
    clients.registrationAttempts.count([vault.keyedHash(`passkeys of ${userId}`)], mostAttempts, databaseClock.now())
  passkeyEndpoint(app, endpoints.passkeys, { ...common, requests, passkeys, countAttempt, signsInHere })
  if (ownCode) userCodeEndpoint(app, endpoints.userCode, { ...common, checkPassword, ownCode, throttle })
  pushSubscriptionEndpoint(app, endpoints.pushSubscriptions, { identifyCaller, subscriptions })
  if (signsInHere) {
    const sessions = createUserSessions({ provider: openid.provider, store, userKey, clock, audit })
    sessionEndpoint(app, endpoints.sessions, { identifyCaller, sessions })
  }
}
