/**
 * Stores the models of oidc-provider (tokens, grants, sessions) in our tables. The writes of oidc-provider can be
 * collected, and executed in one transaction with our own writes.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Adapter, AdapterPayload } from 'oidc-provider'
import Provider, { errors } from 'oidc-provider'
import { DECIDE_SCOPE } from '../client/metadata/client-metadata.ts'
import type { Clock } from '../platform/clock.ts'
import { fingerprint, newId, type Vault } from '../platform/crypto.ts'
import { browserName } from '../platform/http/browser-name.ts'
import type { Statement } from '../platform/storage/database.ts'
import { placeOfThisCall } from './authorize-endpoint.ts'
import { forgetFound, foundInCall, removeOnceInCall } from './call-memory.ts'
import { heldGeneration, heldRegistration, holdGeneration, holdRegistration } from './held-generations.ts'
import type { FoundModel, OidcModelStore, UsedSession } from './oidc-model-store.ts'
import { withoutOldTokens } from './old-token-store.ts'
import type { SignInPlaces } from './sign-in-places.ts'
import type { NarrowModel } from './withdrawn-permissions.ts'

export interface AdapterNeeds {
  models: OidcModelStore
  /** Resolves to a client in the form that oidc-provider uses, or undefined if there is none. */
  findClient(id: string): Promise<AdapterPayload | undefined>
  /** Narrows each token that is found to what its client may have now. */
  narrow: NarrowModel
  vault: Vault
  clock: Clock
  /** The places of unfinished sign-ins. */
  places: Pick<SignInPlaces, 'ended'>
  /** Whether to store sessions in which no user has signed in. Only some features of oidc-provider need such sessions. */
  keepsStrangers: boolean
}

interface Collected {
  statements: Statement[]
  requestId: string
}

const collecting = new AsyncLocalStorage<Collected>()

/**
 * Runs `work`, and collects the models that oidc-provider saves during `work` instead of writing them. Resolves to the
 * result of `work`, and to the statements that write these models.
 *
 * @param requestId the id of the authentication request, stored with each model
 */
export async function collectWrites<T>(requestId: string, work: () => Promise<T>): Promise<[T, Statement[]]> {
  const collected: Collected = { statements: [], requestId }
  const result = await collecting.run(collected, work)
  return [result, collected.statements]
}

/** Models that are revoked together with their grant. An interaction also refers to a grant, but continues without it. */
const goesWithGrant = new Set(['AccessToken', 'RefreshToken', 'AuthorizationCode'])

/**
 * Models that a user or a client can cause again and again within one grant. A refresh token is replaced at each use. Used
 * refresh tokens are kept, so that the server notices if an attacker uses one of them again.
 */
const isBounded = new Set(['AccessToken', 'AuthorizationCode'])

/** Returns the adapter factory for oidc-provider. Clients are read-only. All other models are stored encrypted. */
export function createAdapterFactory(needs: AdapterNeeds): (model: string) => Adapter {
  return (model) => (model === 'Client' ? clientAdapter(needs) : modelAdapter(model, needs))
}

function modelAdapter(model: string, { models, narrow, vault, clock, places, keepsStrangers }: AdapterNeeds): Adapter {
  const aadOf = (idHash: string) => `oidc_models/${model}/${idHash}`

  function open(found: FoundModel | undefined) {
    if (found === undefined) return undefined
    if (found.user_id !== null) holdGeneration(found.user_id, found.user_generation)
    if (found.client_id !== null) holdRegistration(found.client_id, found.client_registration_id)
    const payload = JSON.parse(vault.open(found.sealed, aadOf(found.id_hash))) as AdapterPayload
    if (found.consumed_at !== null) payload.consumed = Math.floor(found.consumed_at / 1000)
    return payload
  }

  return {
    async upsert(id, payload, expiresIn) {
      forgetFound()
      if (model === 'Session' && payload.accountId === undefined && !keepsStrangers) return
      const idHash = fingerprint(id)
      const expiresAt = expiresIn ? clock.now() + expiresIn * 1000 : undefined
      const collected = collecting.getStore()
      const { clientId } = payload
      const userId = userOf(payload)
      const kept = {
        model,
        idHash,
        sealed: vault.seal(JSON.stringify(payload), aadOf(idHash)),
        grantHash: goesWithGrant.has(model) && payload.grantId ? fingerprint(payload.grantId) : undefined,
        uidHash: sessionOf(payload),
        clientId,
        userId,
        requestId: collected?.requestId,
        expiresAt,
        userGeneration: userId === undefined ? undefined : heldGeneration(userId),
        clientRegistration: clientId === undefined ? undefined : heldRegistration(clientId),
      }
      const statement = models.put(kept)
      if (collected) collected.statements.push(statement)
      else if (model === 'Session' && userId !== undefined)
        await models.runSession(statement, useOf(payload, clock.now()))
      else if (isBounded.has(model)) await models.run(statement, [], [withoutOldTokens(kept)])
      else await models.run(statement, model === 'Interaction' ? placeOfThisCall()?.keep(idHash, expiresAt ?? 0) : [])
    },
    async find(id) {
      const idHash = fingerprint(id)
      const row = await foundInCall(model, idHash, () => models.find(model, idHash, clock.now()))
      const payload = open(row)
      // A token is used, so the client has received the response. From now on the response is not given again.
      if (row?.has_held_response === 1) await models.forgetHeldResponse(fingerprint(payload!.grantId!))
      return payload && narrow(model, payload)
    },
    findByUid: async (uid) => open(await models.findByUid(model, fingerprint(uid), clock.now())),
    findByUserCode: async () => undefined,
    async consume(id) {
      forgetFound()
      // oidc-provider reads the model first and marks it as used later. If two simultaneous calls have read it, only
      // the call that marks it first may continue.
      const first = await models.consume(model, fingerprint(id), clock.now())
      if (!first) throw new errors.InvalidGrant(`${model} is already consumed`)
    },
    async destroy(id) {
      forgetFound()
      const idHash = fingerprint(id)
      if (model === 'Interaction') places.ended(idHash)
      const removed = await models.remove(model, idHash)
      // oidc-provider reads the interaction first and removes it later. Without this error, each of several simultaneous
      // calls would sign in and store a session.
      if (model === 'Interaction' && !removed) throw new errors.SessionNotFound('interaction session not found')
    },
    revokeByGrantId(grantId) {
      forgetFound()
      const grantHash = fingerprint(grantId)
      return removeOnceInCall(grantHash, () => models.removeByGrant(grantHash))
    },
  }
}

/**
 * Returns the hash of the `uid` of the session that a model belongs to. A session and an interaction have a `uid` of
 * their own. A token belongs to a session only if it ends with the session. A token with the scope `offline_access`
 * does not end with its session, unless it can decide requests: a user who ends the session of an app expects that this
 * app can no longer approve anything. If a session expires by itself, such a token stays valid.
 */
function sessionOf({ uid, sessionUid, expiresWithSession, scope }: AdapterPayload): string | undefined {
  const decides = String(scope ?? '')
    .split(' ')
    .includes(DECIDE_SCOPE)
  const session = uid ?? (expiresWithSession || decides ? sessionUid : undefined)
  return session === undefined ? undefined : fingerprint(session)
}

/**
 * Returns the id of the user that a model belongs to, or undefined. An interaction belongs to the user who has just
 * signed in, or else to the user of its session.
 */
function userOf({ accountId, result, session }: AdapterPayload): string | undefined {
  const signedIn = (result as { login?: { accountId?: string } } | undefined)?.login?.accountId
  return accountId ?? signedIn ?? (session as { accountId?: string } | undefined)?.accountId
}

/**
 * Builds the record that says that this browser has used the session now. The name of the browser comes from the
 * `User-Agent` header of the current call.
 */
function useOf({ uid, loginTs }: AdapterPayload, now: number): UsedSession {
  return {
    id: newId(now),
    uidHash: fingerprint(uid!),
    browser: browserName(Provider.ctx?.get('user-agent')),
    signedInAt: loginTs === undefined ? now : loginTs * 1000,
    now,
  }
}

/** Clients are stored in our own table; oidc-provider only reads them. */
function clientAdapter({ findClient }: AdapterNeeds): Adapter {
  const never = async () => {
    throw new Error('clients are registered with Doorbell, not with oidc-provider')
  }
  return {
    find: findClient,
    upsert: never,
    findByUid: async () => undefined,
    findByUserCode: async () => undefined,
    consume: never,
    destroy: never,
    revokeByGrantId: never,
  }
}
