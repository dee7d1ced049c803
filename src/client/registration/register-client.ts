/**
 * Dynamic client registration (RFC 7591, RFC 7592). A client that registers itself never gets rights that only an
 * operator may grant.
 */
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { newId, newSecret, sameSecret, type Vault } from '../../platform/crypto.ts'
import { networkOf, networksOf } from '../../platform/http/address.ts'
import { type FairQueue, groupsByNetwork, type QueuedCaller } from '../../platform/http/fair-queue.ts'
import type { LoadShedding, Slot } from '../../platform/http/load-shedding.ts'
import { OAuthError } from '../../platform/oauth-error.ts'
import type { Statement } from '../../platform/storage/database.ts'
import type { DatabaseClock } from '../../platform/storage/database-clock.ts'
import { isPlain } from '../../platform/validation.ts'
import type { Client } from '../client.ts'
import type { ClientStore } from '../client-store.ts'
import { secretAad, toClient } from '../configured-clients.ts'
import { type ClientMetadata, DECIDE_SCOPE, needsSecret } from '../metadata/client-metadata.ts'
import { leastSecretLength, newClientSecret, unavailableSecret } from '../metadata/client-secret-length.ts'
import { readClientMetadata } from '../metadata/read-client-metadata.ts'
import { leavesSector, sectorStays } from '../metadata/sector.ts'
import { nameProblem } from '../metadata/shown-name.ts'
import type { OperatorNames } from '../operator-names.ts'
import { type SectorLists, sectorProblem } from '../pairwise/sector-identifier.ts'
import type { InitialAccessStore } from './initial-access-token-store.ts'
import { registeredIdTokenAlg, type ValuesContext } from './registered-values.ts'
import type { RegistrationAttemptStore } from './registration-attempt-store.ts'
import type { RegistrationStore } from './registration-store.ts'

export interface RegistrationNeeds extends ValuesContext, Pick<LoadShedding, 'whileUnproven' | 'withFairShare'> {
  /**
   * `token`: an initial access token is required. `open`: no token is required. In mode `open`, at most `perHour`
   * clients may be registered within an hour from one IPv4 address or one IPv6 /64. At most ten times as many attempts
   * may be made within an hour from one network: a /24 (IPv4), a /64 or a /48 (IPv6).
   */
  policy: { mode: 'token' | 'open'; perHour: number }
  clients: ClientStore
  /** Resolves to the names of the operator's clients. A client that registers itself must not use similar names. */
  operatorNames: OperatorNames
  registrations: RegistrationStore
  attempts: Pick<RegistrationAttemptStore, 'count'>
  /** The queue in which attempts of anonymous callers wait until they are counted. */
  attemptQueue: FairQueue
  initialAccess: InitialAccessStore
  /**
   * The scopes that clients can register. A client that registers no scopes gets all of them. The list never includes
   * `ciba:decide`, the scope with which a user's device decides authentication requests.
   */
  scopes: readonly string[]
  /**
   * Whether users may have user codes. If true, every client that registers itself for CIBA gets
   * `backchannel_user_code_parameter`. Only an operator can make an exception.
   */
  userCodes: boolean
  /** Whether names of clients are shown in mails to users. */
  mailed: boolean
  /** Resolves to the reason why oidc-provider rejects the client, or to undefined if oidc-provider accepts it. */
  accepts(client: Client): Promise<string | undefined>
  /**
   * Returns the statements that revoke or remove all that belongs to a client, for the transaction that removes the
   * client.
   */
  endings(clientId: string, now: number): Statement[]
  sectorLists: Pick<SectorLists, 'get'>
  vault: Vault
  clock: Clock
  databaseClock: Pick<DatabaseClock, 'now'>
  audit: Audit
}

/** A registered client, with the secrets that only the client receives. */
export interface Registration {
  client: Client
  /** The secret in clear text, if a new one was made. */
  secret: string | undefined
  /** The registration access token (RFC 7592 §3). */
  registrationToken: string
  /** Milliseconds since 1970. */
  registeredAt: number
}

/**
 * Members that only an operator may set. A registration with such a member is refused. If the member were ignored
 * instead, the client would not be what its developer expects.
 */
const operatorsOnly = ['backchannel_device_service', 'backchannel_unknown_users', 'limits']

/**
 * How many attempts are allowed for each client that may be registered. The number is more than one, so that a
 * developer can correct mistakes.
 */
const attemptsEach = 10

/**
 * How often a client may replace its registration in an hour. Each replacement may cause a fetch, and changes a row.
 */
const replacementsPerHour = 60

/**
 * What is known about the call: the caller's address (for limits and the audit), the load-shedding slot, and the
 * connection.
 */
export interface RegistrationCall {
  from: string
  slot: Slot | undefined
  /**
   * The connection of the caller. If the caller closes it while the attempt waits in the queue, the attempt is not
   * counted.
   */
  connection: QueuedCaller['connection']
}

/**
 * Registers a client (RFC 7591 §3). Until the initial access token is found, the call counts as that of an unproven
 * caller. If no token is required, it counts as that of an unproven caller until it ends.
 *
 * @param permission the initial access token, if one was sent
 * @throws {OAuthError} `invalid_token`, `invalid_client_metadata`, `invalid_redirect_uri`, `access_denied` (429)
 * @throws {Overloaded} if there are too many calls of unproven callers
 */
export async function register(
  said: unknown,
  permission: string | undefined,
  call: RegistrationCall,
  needs: RegistrationNeeds,
): Promise<Registration> {
  const { initialAccess, policy, clock, whileUnproven } = needs
  const add = () => addClient(said, permission, call, needs)
  if (policy.mode === 'open') return whileUnproven('', call.slot, add)
  // The token is checked before the metadata is read, so that a caller without a valid token learns nothing and causes
  // no fetch.
  const isAllowed =
    permission !== undefined &&
    (await whileUnproven('', call.slot, () => initialAccess.isGood(permission, clock.now())))
  if (!isAllowed) throw notAllowed()
  return add()
}

async function addClient(
  said: unknown,
  permission: string | undefined,
  call: RegistrationCall,
  needs: RegistrationNeeds,
): Promise<Registration> {
  const { from, slot } = call
  const { registrations, initialAccess, policy, clock, vault } = needs
  const now = clock.now()
  const network = vault.keyedHash(networkOf(from))
  if (policy.mode === 'open' && !(await mayTry(call, network, now, needs))) throw tooMany()
  const { client, secret } = await read(said, newId(now), undefined, slot, needs)
  const registrationToken = newSecret()
  const kept =
    policy.mode === 'token'
      ? await registrations.addPermitted(client, registrationToken, initialAccess.use(permission!, now), now)
      : await registrations.addOpen(client, registrationToken, network, policy.perHour, now)
  if (!kept) throw policy.mode === 'token' ? notAllowed() : tooMany()
  needs.audit({ event: 'client.registered', client: client.id, address: from })
  return { client, secret, registrationToken, registeredAt: now }
}

/**
 * Counts an attempt to register a client. Resolves to whether the attempt is allowed. An attempt is counted before its
 * metadata is read, because even a refused attempt may cause a fetch. Attempts are counted one at a time. If they were
 * counted at the same time, hundreds of attempts from one network would wait for the same row, each with a database
 * connection of its own.
 */
function mayTry(
  { from, connection }: RegistrationCall,
  network: string,
  now: number,
  needs: RegistrationNeeds,
): Promise<boolean> {
  const { attempts, attemptQueue, policy, registrations, vault } = needs
  const groups = groupsByNetwork('registrations', from, { inAll: 256, wide: 64, narrow: 32 })
  return attemptQueue.withTurn({ groups, connection }, async () => {
    if (!(await registrations.hasCapacity(network, policy.perHour, now))) return false
    const networks = networksOf(from).map((each) => vault.keyedHash(each))
    return attempts.count(networks, policy.perHour * attemptsEach, needs.databaseClock.now())
  })
}

/**
 * Resolves to the client that the registration access token belongs to. The error is the same for a wrong token and for
 * an unknown client. Until the token is found, the call counts as that of an unproven caller.
 *
 * @throws {OAuthError} `invalid_token`
 * @throws {Overloaded} if there are too many calls of unproven callers
 */
export async function find(
  id: string,
  token: string | undefined,
  slot: Slot | undefined,
  { registrations, clients, whileUnproven }: RegistrationNeeds,
): Promise<Client> {
  if (token === undefined) throw notAllowed()
  const client = await whileUnproven(id, slot, async () =>
    (await registrations.isLookedAfterBy(id, token)) ? clients.find(id) : undefined,
  )
  if (client === undefined) throw notAllowed()
  return client
}

/**
 * Replaces all metadata (RFC 7592 §2.2): members that are left out get their defaults. The client also gets a new
 * registration access token.
 */
export async function replace(
  id: string,
  token: string | undefined,
  said: unknown,
  call: RegistrationCall,
  needs: RegistrationNeeds,
): Promise<Registration> {
  const before = await find(id, token, call.slot, needs)
  return needs.withFairShare(id, call.slot, () => replaceFound(before, token!, said, call, needs))
}

async function replaceFound(
  before: Client,
  token: string,
  said: unknown,
  { from, slot }: RegistrationCall,
  needs: RegistrationNeeds,
): Promise<Registration> {
  const { id } = before
  const counter = needs.vault.keyedHash(`replacements of ${id}`)
  if (!(await needs.attempts.count([counter], replacementsPerHour, needs.databaseClock.now()))) {
    throw tooMany('this registration was replaced too often; try again later')
  }
  if (isPlain(said)) refuseWhatMayNotChange(said, before, needs.vault)
  const { client, secret } = await read(said, id, before, slot, needs)
  const now = needs.clock.now()
  const registrationToken = newSecret()
  if (!(await needs.registrations.replace(client, token, registrationToken, now))) throw notAllowed()
  needs.audit({ event: 'client.replaced', client: id, address: from })
  return { client, secret, registrationToken, registeredAt: now }
}

/** Removes the client with its tokens, its open requests and its pending notifications. */
export async function remove(
  id: string,
  token: string | undefined,
  { from, slot }: Pick<RegistrationCall, 'from' | 'slot'>,
  needs: RegistrationNeeds,
): Promise<void> {
  await find(id, token, slot, needs)
  const endings = needs.endings(id, needs.clock.now())
  const removed = await needs.withFairShare(id, slot, () => needs.registrations.remove(id, token!, endings))
  if (!removed) throw notAllowed()
  needs.audit({ event: 'client.removed', client: id, address: from, by: 'registration' })
}

/**
 * Throws if the client sends members that only the server sets, or a `client_id` or secret that is not its own (RFC
 * 7592 §2.2).
 */
function refuseWhatMayNotChange(said: Record<string, unknown>, before: Client, vault: Vault): void {
  const ours = [
    'registration_access_token',
    'registration_client_uri',
    'client_secret_expires_at',
    'client_id_issued_at',
  ].find((name) => name in said)
  if (ours !== undefined) throw wrong(`${ours} must be left out`)
  if (said.client_id !== before.id) throw wrong('client_id must be that of the registration')
  const { client_secret: secret } = said
  if (secret === undefined || secret === null) return
  if (typeof secret !== 'string' || !sameSecret(vault.keyedHash(secret), before.secretHash ?? '')) {
    throw wrong('client_secret must be the current one, or left out')
  }
}

async function read(
  said: unknown,
  id: string,
  before: Client | undefined,
  slot: Slot | undefined,
  needs: RegistrationNeeds,
) {
  if (!isPlain(said)) throw wrong('client metadata must be a JSON object')
  // A member that is null counts as left out, so that it gets its default (RFC 7591 §2, RFC 7592 §2.2).
  const { client_secret: _, ...own } = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== null))
  const reserved = operatorsOnly.find((name) => own[name] !== undefined && own[name] !== false)
  if (reserved !== undefined) throw wrong(`${reserved} may only be set by the operator`)

  const method = own.token_endpoint_auth_method ?? 'client_secret_basic'
  const keeps = before !== undefined && keepsSecret(before, own, needs.vault)
  const secret = needsSecret(method) && !keeps ? newClientSecret(method) : undefined
  const checked = readClientMetadata(
    {
      scope: needs.scopes.join(' '),
      id_token_signed_response_alg: registeredIdTokenAlg(needs),
      ...own,
      // Overrides the value that the client sent, because a client must not exempt itself from user codes. The response
      // shows the registered value (RFC 7591 §3.2.1).
      ...(needs.userCodes && sendsRequests(own) && { backchannel_user_code_parameter: true }),
      client_id: id,
      // If the client keeps its secret, the secret is not available in clear text here, so a placeholder is used.
      // `keepsSecret` has checked the length of a secret that is an HMAC key.
      ...(needsSecret(method) && { client_secret: secret ?? unavailableSecret }),
    },
    needs.validationContext,
  )
  if ('problems' in checked) throw wrong(...checked.problems)
  const { client_name: name } = checked.client
  const { mailed } = needs
  const known = { haveOneLike: async (skeleton: string) => (await needs.operatorNames()).haveOneLike(skeleton) }
  const misnamed = name === undefined ? undefined : await nameProblem(name, { known, mailed })
  if (misnamed !== undefined) throw wrong(misnamed)
  const scopes = checked.client.scope?.split(' ') ?? []
  if (scopes.includes(DECIDE_SCOPE))
    throw wrong(`scope must not contain ${DECIDE_SCOPE}: only the operator may grant it`)
  const strange = scopes.some((scope) => !needs.scopes.includes(scope))
  if (strange) throw wrong('scope contains a value that this provider does not support')
  const { client_secret: __, ...metadata } = checked.client
  if (before !== undefined && leavesSector(before.metadata, metadata)) throw wrong(sectorStays)
  const sector = await sectorProblem(metadata, needs.sectorLists, slot)
  if (sector !== undefined) throw wrong(sector)

  const client = withSecret(metadata, secret, keeps ? before : undefined, needs.vault)
  const refused = await needs.accepts(client)
  if (refused !== undefined) throw wrong(refused)
  return { client, secret }
}

/**
 * Whether a client keeps its secret. It does if the authentication method stays the same. A secret for
 * `client_secret_jwt` must also be decryptable, and long enough for the algorithm.
 */
function keepsSecret(
  { id, metadata, secretHash, secretSealed }: Client,
  {
    token_endpoint_auth_method: method = 'client_secret_basic',
    token_endpoint_auth_signing_alg,
  }: Record<string, unknown>,
  vault: Vault,
): boolean {
  if (secretHash === undefined || method !== metadata.token_endpoint_auth_method) return false
  if (secretSealed === undefined) return true
  const secret = vault.openStored(secretSealed, secretAad(id)) ?? ''
  return secret.length >= leastSecretLength(token_endpoint_auth_signing_alg)
}

function sendsRequests({ backchannel_token_delivery_mode: mode }: Record<string, unknown>): boolean {
  return mode !== undefined
}

function withSecret(metadata: ClientMetadata, secret: string | undefined, before: Client | undefined, vault: Vault) {
  if (before === undefined)
    return toClient({ ...metadata, ...(secret !== undefined && { client_secret: secret }) }, vault)
  const { secretHash, secretSealed } = before
  return { ...toClient(metadata, vault), secretHash, secretSealed }
}

function notAllowed(): OAuthError {
  return new OAuthError('invalid_token', 'a valid initial access or registration access token is required')
}

function tooMany(description = 'too many registrations from this address; try again later'): OAuthError {
  return new OAuthError('access_denied', description, {
    status: 429,
    headers: { 'Retry-After': '3600' },
  })
}

function wrong(...problems: string[]): OAuthError {
  const code = problems.every((problem) => problem.startsWith('redirect_uris'))
    ? 'invalid_redirect_uri'
    : 'invalid_client_metadata'
  return new OAuthError(code, problems.join('; '))
}
