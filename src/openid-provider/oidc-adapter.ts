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
import type { ListStatement, Statement } from '../platform/storage/database.ts'
import { placeOfThisCall } from './authorize-endpoint.ts'
import { forgetFound, foundInCall, removeOnceInCall } from './call-memory.ts'
import { heldGeneration, heldRegistration, holdGeneration, holdRegistration } from './generations-of-call.ts'
import type { KnownTokens } from './known-tokens.ts'
import { mergedGrant } from './merged-grant.ts'
import type {
  CallWrites,
  FirstUse,
  FoundModel,
  KeptModel,
  MakeRoomForSession,
  OidcModelStore,
  UsedSession,
} from './oidc-model-store.ts'
import { withoutTooMany } from './old-token-store.ts'
import { NoPlace, type SignInPlaces } from './sign-in-places.ts'
import { createEndGrantOfUsed } from './used-refresh-tokens.ts'
import type { NarrowModel } from './withdrawn-permissions.ts'

export interface AdapterNeeds {
  models: OidcModelStore
  /** Resolves to a client in the form that oidc-provider uses, or undefined if there is none. */
  findClient(id: string): Promise<AdapterPayload | undefined>
  /**
   * Removes the scopes, resources, claims and details that the client must not have now, from each token that is found.
   */
  narrow: NarrowModel
  vault: Vault
  clock: Clock
  /** Limits the number of unfinished sign-ins. A place becomes free when the sign-in ends. */
  places: Pick<SignInPlaces, 'ended'>
  knownTokens: Pick<KnownTokens, 'add'>
  makeRoomForSession: MakeRoomForSession
  /**
   * Whether to store sessions in which no user has signed in. Only some features of oidc-provider need such sessions.
   */
  keepsStrangers: boolean
}

interface Collected {
  statements: ListStatement[]
  /** The id of the authentication request whose tokens are issued; undefined for oidc-provider's own grant types. */
  requestId?: string
  /**
   * The other writes of the current token request; undefined if this is not a request with one of oidc-provider's own
   * grant types.
   */
  call?: Omit<CallWrites, 'issued'>
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

/**
 * Runs `work`, which handles a token request with one of oidc-provider's own grant types. Collects the models that
 * `work` saves, and the code or token that it marks as used. Removals are executed at once. For example, if a used
 * token is sent again, oidc-provider removes the grant of the token and throws. The collected writes are then
 * discarded, but the removal must take effect.
 */
export async function collectCall(work: () => Promise<void>): Promise<CallWrites> {
  const call: Collected['call'] = { used: undefined, also: [] }
  const collected: Collected = { statements: [], call }
  await collecting.run(collected, work)
  return { ...call, issued: collected.statements }
}

/**
 * Models that are revoked together with their grant. An interaction also refers to a grant, but is not revoked with it,
 * because the sign-in can continue without the grant.
 */
const goesWithGrant = new Set(['AccessToken', 'RefreshToken', 'AuthorizationCode'])

/**
 * Whether a model is a token or code that is sent from a device of the user, by an app or a browser. CIBA tokens do not
 * count, because the client itself sends them.
 */
function isOfUser(model: string, payload: AdapterPayload): payload is AdapterPayload & { accountId: string } {
  return goesWithGrant.has(model) && payload.accountId !== undefined && !String(payload.gty).startsWith('ciba')
}

/**
 * Records that a row is stored for the current sign-in, so that the sign-in keeps its place after the call. Returns the
 * id hashes of other sign-ins that must be removed to make room.
 */
function keepPlace(idHash: string, expiresAt: number): string[] | undefined {
  try {
    return placeOfThisCall()?.keep(idHash, expiresAt)
  } catch (error) {
    // oidc-provider reports this error to the client by a redirect, like every error of the authorization endpoint.
    throw error instanceof NoPlace ? new errors.TemporarilyUnavailable(error.message) : error
  }
}

/** Returns the adapter factory for oidc-provider. Clients are read-only. All other models are stored encrypted. */
export function createAdapterFactory(needs: AdapterNeeds): (model: string) => Adapter {
  return (model) => (model === 'Client' ? clientAdapter(needs) : modelAdapter(model, needs))
}

function modelAdapter(model: string, needs: AdapterNeeds): Adapter {
  const { models, narrow, vault, clock, places, knownTokens, keepsStrangers } = needs
  const aadOf = (idHash: string) => `oidc_models/${model}/${idHash}`
  const endGrantOfUsed = createEndGrantOfUsed({ models, vault, clock })

  function open(found: FoundModel | undefined) {
    if (found === undefined) return undefined
    if (found.user_id !== null) holdGeneration(found.user_id, found.user_generation)
    if (found.client_id !== null) holdRegistration(found.client_id, found.client_registration_id)
    const payload = vault.openJson<AdapterPayload>(found.sealed, aadOf(found.id_hash))
    // If the content cannot be decrypted, oidc-provider treats the model as unknown. A token is then not valid, and the
    // user of a session has to sign in again.
    if (payload === undefined) return undefined
    if (found.consumed_at !== null) payload.consumed = Math.floor(found.consumed_at / 1000)
    return payload
  }

  return {
    async upsert(id, payload, expiresIn) {
      forgetFound()
      if (model === 'Session' && payload.accountId === undefined && !keepsStrangers) return
      const idHash = fingerprint(id)
      const expiresAt = expiresIn ? clock.now() + expiresIn * 1000 : undefined
      const { clientId } = payload
      const userId = userOf(payload)
      const seal = (content: AdapterPayload) => vault.seal(JSON.stringify(content), aadOf(idHash))
      const kept = {
        model,
        idHash,
        sealed: seal(payload),
        grantHash: goesWithGrant.has(model) && payload.grantId ? fingerprint(payload.grantId) : undefined,
        uidHash: sessionOf(payload),
        clientId,
        userId,
        requestId: collecting.getStore()?.requestId,
        expiresAt,
        issuedAt: clock.now(),
        userGeneration: userId === undefined ? undefined : heldGeneration(userId),
        clientRegistration: clientId === undefined ? undefined : heldRegistration(clientId),
      }
      if (isOfUser(model, payload)) knownTokens.add(idHash, payload.accountId)
      if (model !== 'Grant' || collecting.getStore()) return store(kept, payload, needs)
      const merged = (stored: string) => seal(mergedGrant(vault.openJson(stored, aadOf(idHash)), payload))
      await models.merge(kept, merged, withoutTooMany(kept))
    },
    async find(id) {
      const idHash = fingerprint(id)
      const row = await foundInCall(model, idHash, () => models.find(model, idHash, clock.now()))
      const payload = open(row)
      if (payload === undefined && model === 'RefreshToken') await endGrantOfUsed(id)
      if (payload !== undefined && isOfUser(model, payload)) knownTokens.add(idHash, payload.accountId)
      // The token is used, so the client has received the token response. From now on, this response is not sent again.
      if (payload && row?.has_held_response === 1) await models.forgetHeldResponse(fingerprint(payload.grantId!))
      return payload && narrow(model, payload)
    },
    findByUid: async (uid) => open(await models.findByUid(model, fingerprint(uid), clock.now())),
    findByUserCode: async () => undefined,
    async consume(id) {
      forgetFound()
      await useOnce({ model, idHash: fingerprint(id), now: clock.now() }, models)
    },
    async destroy(id) {
      forgetFound()
      const idHash = fingerprint(id)
      if (model === 'Interaction') places.ended(idHash)
      const removed = await models.remove(model, idHash)
      // oidc-provider reads the interaction first and removes it later. Without this error, each of several
      // simultaneous calls for one interaction would store a session.
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
 * Marks a code or a token as used, or collects this write. oidc-provider reads the code or token first and marks it as
 * used later. If two simultaneous calls have read it, only the call that marks it first may continue.
 */
async function useOnce(use: FirstUse, models: OidcModelStore): Promise<void> {
  const call = collecting.getStore()?.call
  if (call && call.used === undefined) {
    call.used = use
    return
  }
  const first = await models.consume(use)
  if (!first) throw new errors.InvalidGrant(`${use.model} is already consumed`)
}

/** Stores a model, or collects the statements that store it. */
async function store(kept: KeptModel, payload: AdapterPayload, needs: AdapterNeeds): Promise<void> {
  const { models, clock, makeRoomForSession } = needs
  const statement = models.put(kept)
  const collected = collecting.getStore()
  if (collected) {
    collected.statements.push(statement)
    collected.call?.also.push(...withoutTooMany(kept))
  } else if (kept.model === 'Session' && kept.userId !== undefined) {
    const used = useOf(payload, clock.now())
    await models.runSession(statement, used, await makeRoomForSession(kept.userId, used.uidHash))
  } else if (kept.model === 'Interaction' && payload.result !== undefined) {
    // Since this call read the sign-in, another submission of the form may have finished the sign-in. The client then
    // has the result of that submission, and must not get a different result.
    if (!(await models.replaceSignIn(kept))) throw new errors.SessionNotFound('interaction session not found')
  } else if (kept.model === 'Interaction') {
    await models.run(statement, keepPlace(kept.idHash, kept.expiresAt ?? 0))
  } else {
    await models.run(statement, [], withoutTooMany(kept))
  }
}

/**
 * Returns the hash of the `uid` of the session that a model belongs to. For a session or an interaction, this is its
 * own `uid`. A token belongs to a session only if the token ends with the session. A token with the scope
 * `offline_access` belongs to no session, except if it also has the scope `ciba:decide`. When a user ends the session,
 * the app must no longer be able to approve authentication requests. If the session expires by itself, all tokens with
 * `offline_access` stay valid.
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
 * Returns the entry for the user's list of sessions, which says that a browser uses the session now. The name of the
 * browser comes from the `User-Agent` header of the current call.
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
