/**
 * Builds the consent app: the pages on which users approve requests. The consent app is a client of the device API. Its
 * users sign in at this server or at another provider.
 */
import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { onSessionsEnded, USER_REQUESTS } from '../ciba/authentication-request/user-announcement.ts'
import { consentAppEndpoint } from '../consent-app/consent-app-endpoint.ts'
import { createDeviceApiClient, type SendToServer } from '../consent-app/device-api.ts'
import { admitOwn, createSignIn, fetchFrom, fromProvider } from '../consent-app/sign-in.ts'
import { createDeviceToken } from '../openid-provider/device-token.ts'
import { createBeginFor } from '../openid-provider/generations-of-call.ts'
import { cookieNames } from '../openid-provider/paths.ts'
import { createAdmission } from '../openid-provider/sign-in/external-sign-in.ts'
import { createFirstSignIn } from '../openid-provider/sign-in/first-sign-in.ts'
import { type BoundedWait, createBoundedWait } from '../platform/http/bounded-wait.ts'
import { fetchThrough } from '../platform/http/fetch.ts'
import { Unavailable } from '../platform/http/unavailable.ts'
import type { Framing } from '../platform/pages/pages.ts'
import type { CibaNeeds } from './ciba.ts'

export interface ConsentAppParts {
  /** Sends a request to this server, without a network connection. */
  send: SendToServer
  framing: Framing
}

/** Milliseconds within which another provider must respond when a user signs in there. */
const signInTimeoutMs = 10_000

/** Adds the pages of the consent app. */
export async function addConsentApp(app: FastifyInstance, needs: CibaNeeds, parts: ConsentAppParts): Promise<void> {
  const { platform, clients, users, openid, stored, channels } = needs
  const { config, database, texts, clock, log, audit, loadShedding } = platform
  const { send, framing } = parts
  const { userKey } = stored
  const signsInHere = config.login.issuer === 'self'
  const { whileUnproven } = loadShedding
  const whileLookingUp: BoundedWait = (slot, work, returning) => whileUnproven('', slot, work, returning)
  const where = signsInHere ? signingInHere(needs, send) : signingInElsewhere(needs)
  const redirectUri = clients.ownApp.redirect_uris[0]!
  await app.register(async (scope) =>
    consentAppEndpoint(scope, {
      issuer: config.issuer,
      api: createDeviceApiClient(send),
      endSession: openid.endSession,
      providerCookie: signsInHere ? cookieNames(config.issuer).session : undefined,
      signIn: createSignIn({ redirectUri, ...where }),
      whileSigningIn: signsInHere ? whileLookingUp : createBoundedWait(loadShedding.releaseSlotWhile),
      whileUnproven,
      returningUser: openid.returningUsers.byCookies,
      cookies: openid.appCookies,
      texts,
      pushKey: channels.pushKey,
      userCodes: users.ownCode !== undefined,
      onChange: (listener) => database.listen(USER_REQUESTS, listener),
      onSessionsEnded: (listener) => onSessionsEnded(database, clock, listener),
      userKey,
      framing,
      streams: config.limits.streams,
      clock,
      log,
      audit,
    }),
  )
}

function signingInHere({ platform, clients }: CibaNeeds, send: SendToServer) {
  const { ownApp } = clients
  return {
    issuer: platform.config.issuer,
    clientId: ownApp.client_id,
    clientSecret: ownApp.client_secret!,
    authMethod: 'client_secret_basic' as const,
    scope: ownApp.scope!,
    fetch: fetchFrom(send),
    admit: admitOwn,
  }
}

function signingInElsewhere({ platform, clients, users, openid }: CibaNeeds) {
  const { config, audit, openCaller } = platform
  const { ownApp } = clients
  const { issuer, client_id, client_secret, token_endpoint_auth_method } = config.login
  return {
    issuer,
    clientId: client_id!,
    clientSecret: client_secret!,
    authMethod: token_endpoint_auth_method,
    scope: 'openid profile email',
    // The operator has configured the address of the other provider, so it may be in a private network.
    fetch: fromProvider(fetchThrough(openCaller({ allowPrivateNetworks: true, timeoutMs: signInTimeoutMs }))),
    admit: createAdmission({
      users: users.users,
      findInDirectory: Array.isArray(config.users) ? findingInDirectory({ platform, clients, users }) : undefined,
      app: ownApp,
      audit,
      deviceToken: createDeviceToken(openid.provider, ownApp.client_id),
      beginFor: createBeginFor(users.generations),
    }),
  }
}

function findingInDirectory({ platform, clients, users }: Pick<CibaNeeds, 'platform' | 'clients' | 'users'>) {
  const { config, clock, audit } = platform
  const { createUsers: createsUsers } = config.login
  const { store, usedIdsOf } = users
  return createFirstSignIn({ users: users.users, store, createsUsers, usedIdsOf, app: clients.ownApp, clock, audit })
}

/** Returns a function that sends requests to this server, without a network connection. */
export function sendTo(app: FastifyInstance): SendToServer {
  return async ({ path, body, from, ...request }) => {
    const call = { ...request, url: path, ...(body !== undefined && { payload: body }) }
    const answer = await app
      .inject({ ...call, ...(from !== undefined && { remoteAddress: from }) })
      .catch(notWhileClosing)
    return { status: answer.statusCode, headers: textHeaders(answer.headers), text: answer.body }
  }
}

/** Throws the error of `inject`, converted to `Unavailable` if the server is closing. */
function notWhileClosing(error: Error & { code?: string }): never {
  throw error.code === 'FST_ERR_REOPENED_CLOSE_SERVER' ? new Unavailable('the server closes') : error
}

function textHeaders(headers: OutgoingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}
