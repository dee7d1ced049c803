/**
 * Limits on authentication requests. The statement that stores a new request also counts the stored requests, so that
 * concurrent requests cannot exceed a limit.
 *
 * The statement counts at most as many rows as the limit, rounded up to a power of ten. Without a limit, it counts no
 * rows. So its cost depends on the limits, not on the number of rows in the table. The number after `limit` in the SQL
 * is a constant. If it were a parameter, the planner of Postgres would assume a tenth of the rows. The limit is rounded
 * up so that there are only a few different SQL strings.
 */
import { isNotOver } from '../../platform/storage/stored-period.ts'
import { begunBefore } from '../../user/user-generation-store.ts'
import { type AuthenticationRequest, shortLife } from './authentication-request.ts'

/** Limits on requests. A limit that is undefined does not apply. */
export interface RequestLimits {
  /** Maximum number of pending requests about one user at the same time. */
  maxOpenPerUser: number
  perUser?: { perMinute?: number | undefined }
  perClient?: OpenAndPerMinute
  perClientAndUser?: OpenAndPerMinute
  /**
   * The id of the registration with which the client was authenticated (`Client.registrationId`). If given, the request
   * is accepted only if the client still has this registration.
   */
  clientRegistration?: string | undefined
  /** Whether a client has to pause after a denial, or after an unanswered request with a lifetime below `shortLife`. */
  pauses?: boolean
}

export interface OpenAndPerMinute {
  /** Maximum number of pending requests at the same time. */
  open?: number | undefined
  /** Maximum number of requests that are accepted within any sixty seconds. */
  perMinute?: number | undefined
}

/** The reasons for which a request is not accepted, the most important first. */
export type LimitName =
  | 'clientRemoved'
  /** The user was locked, removed or enabled again at about the time of the request. */
  | 'userChanged'
  /** The user is locked, removed or erased, although the application's hook still returns the user. */
  | 'userClosed'
  | 'blocked'
  | 'pauseAfterDenial'
  | 'perUser.open'
  | 'perUser.perMinute'
  | 'perClientAndUser.open'
  | 'perClientAndUser.perMinute'
  | 'perClient.open'
  | 'perClient.perMinute'
  | 'perClient.unknownPerMinute'

export interface ReachedLimit {
  limit: LimitName
  /**
   * The latest time until which this limit refuses requests, in milliseconds since 1970; undefined if it is not known.
   */
  until: number | undefined
}

type Counted = `${'user' | 'pair' | 'client'}_${'open' | 'recent'}`

const limitNames: Record<Counted, LimitName> = {
  user_open: 'perUser.open',
  user_recent: 'perUser.perMinute',
  pair_open: 'perClientAndUser.open',
  pair_recent: 'perClientAndUser.perMinute',
  client_open: 'perClient.open',
  client_recent: 'perClient.perMinute',
}

interface Count {
  name: Counted
  limit: LimitName
  most: number
}

/** Returns an object with the limits. Its keys are the names of the columns in the SQL statements. */
function limitsByName({ maxOpenPerUser, perUser, perClientAndUser: pair, perClient }: RequestLimits) {
  return {
    user_open: maxOpenPerUser,
    user_recent: perUser?.perMinute,
    pair_open: pair?.open,
    pair_recent: pair?.perMinute,
    client_open: perClient?.open,
    client_recent: perClient?.perMinute,
  } satisfies Record<Counted, number | undefined>
}

/** Returns the limits that apply, the most important first. */
function countsOf(limits: RequestLimits): Count[] {
  return Object.entries(limitsByName(limits)).flatMap(([name, most]) =>
    most === undefined ? [] : [{ name: name as Counted, limit: limitNames[name as Counted], most }],
  )
}

/** The period in which accepted requests are counted, in milliseconds. */
const minute = 60_000

interface Asked {
  user: string
  client: string
  now: string
}

/**
 * Returns the SQL that selects the rows to count. The rows of a pair of user and client must be found by the index on
 * the user, because a client has many more rows than a user. SQLite keeps no statistics and would use the index on the
 * client. The `coalesce` in `ofPair` prevents the use of that index.
 */
function rowsOf(name: Counted, { user, client, now }: Asked): string {
  const [who, which] = name.split('_') as ['user' | 'pair' | 'client', 'open' | 'recent']
  const whose = { user: `user_id = ${user}`, pair: ofPair(user, client), client: `client_id = ${client}` }[who]
  const when = {
    open: `status = 'pending' and expires_at > cast(${now} as bigint)`,
    recent: isNotOver({ begin: 'created_at', length: minute }, now),
  }[which]
  return `from backchannel_auth_requests where ${whose} and ${when}`
}

const ofPair = (user: string, client: string) => `user_id = ${user} and coalesce(client_id, '') = ${client}`

/** Returns the SQL that counts the rows. Counting stops at `orderOf(most)` rows. */
function counted({ name, most }: Count, asked: Asked): string {
  return `(select count(*) from (select 1 as one ${rowsOf(name, asked)} limit ${orderOf(most)}) as found)`
}

/** Returns the smallest power of ten that is not below `most`. */
function orderOf(most: number): number {
  let order = 1
  while (order < most) order *= 10
  return order
}

/**
 * Returns the SQL conditions for the limits on open requests or on recent requests, depending on `which`. The rows of a
 * pair of user and client are among the rows of the user, so one subquery counts both. The `limit` of the subquery
 * leaves out rows of the pair only if the limit of the user is reached, and then the request is refused anyway.
 */
function within(limits: RequestLimits, which: 'open' | 'recent', asked: Asked): string[] {
  const counts = countsOf(limits).filter(({ name }) => name.endsWith(which))
  const ofUser = counts.find(({ name }) => name.startsWith('user'))
  const pairs = counts.find(({ name }) => name.startsWith('pair'))
  if (ofUser === undefined || pairs === undefined)
    return counts.map((count) => `${counted(count, asked)} < ${count.name}`)
  const both = `(select count(*) < asked.${ofUser.name}
        and count(case when coalesce(client_id, '') = ${asked.client} then 1 end) < asked.${pairs.name}
      from (select client_id ${rowsOf(ofUser.name, asked)} limit ${orderOf(ofUser.most)}) as found)`
  const others = counts.filter((count) => count !== ofUser && count !== pairs)
  return [both, ...others.map((count) => `${counted(count, asked)} < ${count.name}`)]
}

/**
 * Returns the key under which the SQL string for these limits is cached. Limits with the same key have the same SQL
 * string.
 */
export function orderKey(limits: RequestLimits): string {
  let key = limits.pauses ? '+' : ''
  for (const most of Object.values(limitsByName(limits))) key += ` ${most === undefined ? '' : orderOf(most)}`
  return key
}

/**
 * Returns the SQL for the earliest time at which one of the counted requests is no longer counted, because this request
 * expires or becomes a minute old.
 */
function leavesRoomAt({ name }: Count, asked: Asked): string {
  const first = name.endsWith('_open') ? 'min(expires_at)' : `min(created_at) + ${minute}`
  return `(select ${first} ${rowsOf(name, asked)})`
}

/**
 * Returns the SQL condition for requests of a pair of user and client that had a short lifetime, expired unanswered,
 * and still have the stored status `pending`. The client's pause begins when the sweep (`expiry-sweep.ts`) changes the
 * status to `expired`. Before this change, the condition prevents another request of the client about this user.
 */
function unsettledShort({ user, client, now }: Asked, short: string): string {
  return `${ofPair(user, client)} and status = 'pending' and expires_at <= cast(${now} as bigint)
    and expires_at - created_at < cast(${short} as bigint)`
}

/** Returns the SQL condition that the pause in a row of `denial_pauses` is not over. */
const isPaused = (now: string) => isNotOver({ begin: 'paused_until - pause', length: 'pause' }, now)

/** SQL: the names and types of the input columns for the limits, in the statement that accepts requests. */
export const limitColumns = `user_open bigint, user_recent bigint, pair_open bigint, pair_recent bigint,
  client_open bigint, client_recent bigint, short_life bigint, client_registration text, database_now bigint`

/**
 * Returns the values for the columns of `limitColumns`.
 *
 * @param databaseNow when the request was received, by the clock of the database. The pauses in the table are also
 *   times of this clock
 */
export function limitRow(limits: RequestLimits, databaseNow: number): Record<string, number | string | undefined> {
  const { pauses, clientRegistration } = limits
  return {
    ...limitsByName(limits),
    short_life: pauses ? shortLife : undefined,
    client_registration: clientRegistration,
    database_now: databaseNow,
  }
}

/**
 * Returns the SQL condition under which a request is accepted. The condition refers to the input row `asked`, which
 * must have the columns of `limitColumns`. Limits with the same `orderKey` get the same condition.
 */
export function acceptedWithin(limits: RequestLimits): string {
  const asked = { user: 'asked.user_id', client: 'asked.client_id', now: 'asked.created_at' }
  const conditions = [
    ...within(limits, 'open', asked),
    ...within(limits, 'recent', asked),
    `not exists (select 1 from denial_pauses
      where user_id = asked.user_id and client_id = asked.client_id and ${isPaused('asked.database_now')})`,
    ...(limits.pauses
      ? // `count` replaces `exists`, because Postgres would turn `exists` into a join that reads all open requests.
        [`(select count(*) from backchannel_auth_requests where ${unsettledShort(asked, 'short_life')}) = 0`]
      : []),
    'not exists (select 1 from blocked_clients where user_id = asked.user_id and client_id = asked.client_id)',
    // If the application supplies the users, `is_closed` is not set when a user is removed. Only `changed_at` shows the
    // removal.
    `not exists (select 1 from user_generations where user_id = asked.user_id
      and (is_closed = 1 or ${begunBefore('changed_at', asked.now)}))`,
    registered('asked.client_id', 'asked.client_registration'),
  ]
  return conditions.join('\n    and ')
}

/**
 * Returns the SQL condition that a client still has this registration. The condition is true if `registration` is null.
 */
const registered = (client: string, registration: string) => `(cast(${registration} as text) is null
      or exists (select 1 from clients where clients.id = ${client} and registration_id = ${registration}))`

export type ObstacleRow = { is_registered: number } & {
  user_changed: number
  user_closed: number
  blocked: number
  paused_until: number | null
  unsettled_short: number
} & {
  [name in Counted]?: number
} & { [until in `${Counted}_until`]?: number | null }

/**
 * Returns the query that finds out why a request was not accepted. The query returns times by the wall clock of this
 * node.
 */
export function lookingForObstacle(
  { userId, clientId }: Pick<AuthenticationRequest, 'userId' | 'clientId'>,
  limits: RequestLimits,
  { now, databaseNow }: { now: number; databaseNow: number },
) {
  const asked = { user: '$1', client: '$2', now: '$3' }
  const countings = countsOf(limits).map(
    (count) => `,
      ${counted(count, asked)} as ${count.name}, ${leavesRoomAt(count, asked)} as ${count.name}_until`,
  )
  return {
    sql: `select case when ${registered('$2', '$5')} then 1 else 0 end as is_registered,
      (select count(*) from user_generations
       where user_id = $1 and ${begunBefore('changed_at', 'cast($3 as bigint)')}) as user_changed,
      (select count(*) from user_generations where user_id = $1 and is_closed = 1) as user_closed,
      (select count(*) from blocked_clients where user_id = $1 and client_id = $2) as blocked,
      (select paused_until - cast($6 as bigint) + cast($3 as bigint) from denial_pauses
       where user_id = $1 and client_id = $2 and ${isPaused('$6')}) as paused_until,
      (select count(*) from backchannel_auth_requests
       where ${unsettledShort(asked, '$4')}) as unsettled_short${countings.join('')}`,
    values: [userId, clientId, now, limits.pauses ? shortLife : 0, limits.clientRegistration ?? null, databaseNow],
  }
}

/** Returns the most important limit that is reached, or undefined if no limit is reached any more. */
export function mostImportantLimit(row: ObstacleRow, limits: RequestLimits): ReachedLimit | undefined {
  if (row.is_registered === 0) return { limit: 'clientRemoved', until: undefined }
  if (row.user_changed > 0) return { limit: 'userChanged', until: undefined }
  if (row.user_closed > 0) return { limit: 'userClosed', until: undefined }
  if (row.blocked > 0) return { limit: 'blocked', until: undefined }
  if (row.paused_until !== null) return { limit: 'pauseAfterDenial', until: row.paused_until }
  if (row.unsettled_short > 0) return { limit: 'pauseAfterDenial', until: undefined }
  const found = countsOf(limits).find(({ name, most }) => row[name]! >= most)
  return found && { limit: found.limit, until: row[`${found.name}_until`] ?? undefined }
}
