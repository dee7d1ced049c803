/**
 * Limits on authentication requests. Requests are counted in the statement that accepts a new one, so that concurrent
 * requests cannot exceed a limit.
 *
 * Counting stops at the limit, and without a limit nothing is counted. So the cost of a statement depends on the limits,
 * not on the number of rows. The same holds for the estimate of Postgres' planner, which sees only the SQL text: it takes
 * a `limit` given as a parameter for a tenth of the table. Hence there is one text for each order of magnitude.
 */
import { type AuthenticationRequest, shortLife } from './authentication-request.ts'

/** Limits on requests; a limit left out does not apply. */
export interface RequestLimits {
  /** Pending requests at the same time. */
  maxOpenPerUser: number
  perUser?: { perMinute?: number | undefined }
  perClient?: OpenAndPerMinute
  perClientAndUser?: OpenAndPerMinute
  /** Whether a client has to pause after a denial, and after a short request that was not answered. */
  pauses?: boolean
}

export interface OpenAndPerMinute {
  /** Pending requests at the same time. */
  open?: number | undefined
  /** Requests accepted within any sixty seconds. */
  perMinute?: number | undefined
}

/** Why a request was not accepted, the most important reason first. */
export type LimitName =
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
  /** When the limit no longer applies, at the latest; milliseconds since 1970. Undefined: it is not known. */
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

/** The limits by their column names in the statements. */
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

/** The limits that apply, the most important first. */
function countsOf(limits: RequestLimits): Count[] {
  return Object.entries(limitsByName(limits)).flatMap(([name, most]) =>
    most === undefined ? [] : [{ name: name as Counted, limit: limitNames[name as Counted], most }],
  )
}

/** Milliseconds over which accepted requests are counted. */
const minute = 60_000

interface Asked {
  user: string
  client: string
  now: string
}

/**
 * Returns the SQL that selects the rows to count. Those of a pair are found by the index on the user: a client has many
 * more, and SQLite, which keeps no statistics, would use the index on the client.
 */
function rowsOf(name: Counted, { user, client, now }: Asked): string {
  const [who, which] = name.split('_') as ['user' | 'pair' | 'client', 'open' | 'recent']
  const whose = { user: `user_id = ${user}`, pair: ofPair(user, client), client: `client_id = ${client}` }[who]
  const when = {
    open: `status = 'pending' and expires_at > cast(${now} as bigint)`,
    recent: `created_at > cast(${now} as bigint) - ${minute}`,
  }[which]
  return `from backchannel_auth_requests where ${whose} and ${when}`
}

const ofPair = (user: string, client: string) => `user_id = ${user} and coalesce(client_id, '') = ${client}`

/** SQL for the number of rows; counting stops at a number that is not below the limit. */
function counted({ name, most }: Count, asked: Asked): string {
  return `(select count(*) from (select 1 as one ${rowsOf(name, asked)} limit ${orderOf(most)}) as found)`
}

/** The smallest power of ten that is not below `most`. */
function orderOf(most: number): number {
  let order = 1
  while (order < most) order *= 10
  return order
}

/**
 * Returns the conditions for open requests, or for recent ones. The rows of a pair are among those of its user, so one
 * subquery counts both: if its `limit` cuts rows off, the user's limit is exceeded anyway.
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

/** Limits with the same key have the same SQL text. */
export function orderKey(limits: RequestLimits): string {
  let key = limits.pauses ? '+' : ''
  for (const most of Object.values(limitsByName(limits))) key += ` ${most === undefined ? '' : orderOf(most)}`
  return key
}

/** SQL for the time at which a row is no longer counted: it expires, or was created a minute ago. */
function leavesRoomAt({ name }: Count, asked: Asked): string {
  const first = name.endsWith('_open') ? 'min(expires_at)' : `min(created_at) + ${minute}`
  return `(select ${first} ${rowsOf(name, asked)})`
}

/**
 * The condition for short requests that expired unanswered and that the sweep has not settled yet. Their pause begins
 * when it does; until then the client may not send another request about this user.
 */
function unsettledShort({ user, client, now }: Asked, short: string): string {
  return `${ofPair(user, client)} and status = 'pending' and expires_at <= cast(${now} as bigint)
    and expires_at - created_at < cast(${short} as bigint)`
}

/** The columns in which the statement that accepts requests receives the limits. */
export const limitColumns = `user_open bigint, user_recent bigint, pair_open bigint, pair_recent bigint,
  client_open bigint, client_recent bigint, short_life bigint`

/** The values of `limitColumns`. */
export function limitRow(limits: RequestLimits): Record<Counted | 'short_life', number | undefined> {
  return { ...limitsByName(limits), short_life: limits.pauses ? shortLife : undefined }
}

/** The SQL condition on `asked`, with `limitColumns`, for accepting a request. Equal `orderKey`s give the same text. */
export function acceptedWithin(limits: RequestLimits): string {
  const asked = { user: 'asked.user_id', client: 'asked.client_id', now: 'asked.created_at' }
  const conditions = [
    ...within(limits, 'open', asked),
    ...within(limits, 'recent', asked),
    `not exists (select 1 from denial_pauses
      where user_id = asked.user_id and client_id = asked.client_id and paused_until > asked.created_at)`,
    ...(limits.pauses
      ? // Counted, because Postgres would turn "exists" into a join that reads all open requests.
        [`(select count(*) from backchannel_auth_requests where ${unsettledShort(asked, 'short_life')}) = 0`]
      : []),
    'not exists (select 1 from blocked_clients where user_id = asked.user_id and client_id = asked.client_id)',
    // For a user of the application's own directory only changed_at shows an ending after the call arrived.
    `not exists (select 1 from user_generations where user_id = asked.user_id
      and (is_closed = 1 or changed_at > asked.created_at))`,
  ]
  return conditions.join('\n    and ')
}

export type ObstacleRow = { blocked: number; paused_until: number | null; unsettled_short: number } & {
  [name in Counted]?: number
} & { [until in `${Counted}_until`]?: number | null }

/** Returns the query for the reasons for which a request was not accepted. */
export function lookingForObstacle(
  { userId, clientId }: Pick<AuthenticationRequest, 'userId' | 'clientId'>,
  limits: RequestLimits,
  now: number,
) {
  const asked = { user: '$1', client: '$2', now: '$3' }
  const countings = countsOf(limits).map(
    (count) => `,
      ${counted(count, asked)} as ${count.name}, ${leavesRoomAt(count, asked)} as ${count.name}_until`,
  )
  return {
    sql: `select (select count(*) from blocked_clients where user_id = $1 and client_id = $2) as blocked,
      (select paused_until from denial_pauses
       where user_id = $1 and client_id = $2 and paused_until > cast($3 as bigint)) as paused_until,
      (select count(*) from backchannel_auth_requests
       where ${unsettledShort(asked, '$4')}) as unsettled_short${countings.join('')}`,
    values: [userId, clientId, now, limits.pauses ? shortLife : 0],
  }
}

/** Returns the most important limit that was reached, or undefined if none applies any more. */
export function mostImportantLimit(row: ObstacleRow, limits: RequestLimits): ReachedLimit | undefined {
  if (row.blocked > 0) return { limit: 'blocked', until: undefined }
  if (row.paused_until !== null) return { limit: 'pauseAfterDenial', until: row.paused_until }
  if (row.unsettled_short > 0) return { limit: 'pauseAfterDenial', until: undefined }
  const found = countsOf(limits).find(({ name, most }) => row[name]! >= most)
  return found && { limit: found.limit, until: row[`${found.name}_until`] ?? undefined }
}
