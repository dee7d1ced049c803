/**
 * How much may be asked: what is counted, and how far. It is counted in the statement that accepts a request, so that of
 * many at once none slips through.
 *
 * Nothing is counted further than up to its limit, and what has no limit is not counted at all. So a statement costs what
 * the limits say, by Postgres' estimate too, however many rows there are. The estimate goes by the texts alone: a `limit`
 * that is a parameter would be taken for a tenth of the table. That is why there is one text for each order of magnitude.
 */
import { type AuthenticationRequest, shortLife } from './authentication-request.ts'

/** How much may be asked; what is left out has no limit. */
export interface RequestLimits {
  /** Requests that may wait at the same time. */
  maxOpenPerUser: number
  perUser?: { perMinute?: number | undefined }
  perClient?: OpenAndPerMinute
  perClientAndUser?: OpenAndPerMinute
  /** Whether there are pauses after denials, and after short requests that nobody answered. */
  pauses?: boolean
}

export interface OpenAndPerMinute {
  /** Requests that may wait at the same time. */
  open?: number | undefined
  /** Requests accepted within any sixty seconds. */
  perMinute?: number | undefined
}

/** Why a request was not accepted, the weightiest first. */
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
  /** When there is room again at the latest; milliseconds since 1970. Nothing: when the user says so. */
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

/** The limits by the names that statements have for them. */
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

/** What is limited, the weightiest first. */
function countsOf(limits: RequestLimits): Count[] {
  return Object.entries(limitsByName(limits)).flatMap(([name, most]) =>
    most === undefined ? [] : [{ name: name as Counted, limit: limitNames[name as Counted], most }],
  )
}

/** Milliseconds over which what was accepted is counted. */
const minute = 60_000

interface Asked {
  user: string
  client: string
  now: string
}

/**
 * Which rows are counted. A pair's are found by the user: a client has many more, and SQLite, which keeps no statistics,
 * would go by the client.
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

/** The number of rows, or some number that is not below the limit. */
function counted({ name, most }: Count, asked: Asked): string {
  return `(select count(*) from (select 1 as one ${rowsOf(name, asked)} limit ${orderOf(most)}) as found)`
}

/** The power of ten that is not below it. */
function orderOf(most: number): number {
  let order = 1
  while (order < most) order *= 10
  return order
}

/**
 * The conditions for what is open, or for what is recent. What is counted for a pair is among what is counted for its user,
 * so that one look at those rows tells both: where the limit cuts them off, there are too many for the user already.
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

/** Limits with the same key have the same text. */
export function orderKey(limits: RequestLimits): string {
  let key = limits.pauses ? '+' : ''
  for (const most of Object.values(limitsByName(limits))) key += ` ${most === undefined ? '' : orderOf(most)}`
  return key
}

/** When a counted row leaves room: it runs out, or a minute has passed since it came. */
function leavesRoomAt({ name }: Count, asked: Asked): string {
  const first = name.endsWith('_open') ? 'min(expires_at)' : `min(created_at) + ${minute}`
  return `(select ${first} ${rowsOf(name, asked)})`
}

/**
 * Requests that ran out soon and unanswered, whose pause begins when the sweep finds them, any moment now. A client that
 * comes in between waits for that.
 */
function unsettledShort({ user, client, now }: Asked, short: string): string {
  return `${ofPair(user, client)} and status = 'pending' and expires_at <= cast(${now} as bigint)
    and expires_at - created_at < cast(${short} as bigint)`
}

/** The columns of `acceptingWithin` that say what the limits are. */
export const limitColumns = `user_open bigint, user_recent bigint, pair_open bigint, pair_recent bigint,
  client_open bigint, client_recent bigint, short_life bigint`

export function limitRow(limits: RequestLimits): Record<Counted | 'short_life', number | undefined> {
  return { ...limitsByName(limits), short_life: limits.pauses ? shortLife : undefined }
}

/** The condition under which a request `asked`, with `limitColumns`, is accepted; the same text for limits of an order. */
export function acceptedWithin(limits: RequestLimits): string {
  const asked = { user: 'asked.user_id', client: 'asked.client_id', now: 'asked.created_at' }
  const conditions = [
    ...within(limits, 'open', asked),
    ...within(limits, 'recent', asked),
    `not exists (select 1 from denial_pauses
      where user_id = asked.user_id and client_id = asked.client_id and paused_until > asked.created_at)`,
    ...(limits.pauses
      ? // Counted, and not looked for with "exists": that Postgres would make a join of, and go through all that are open.
        [`(select count(*) from backchannel_auth_requests where ${unsettledShort(asked, 'short_life')}) = 0`]
      : []),
    'not exists (select 1 from blocked_clients where user_id = asked.user_id and client_id = asked.client_id)',
    // Of an application's own user only this tells: who has ended since the call came is closed nowhere.
    `not exists (select 1 from user_generations where user_id = asked.user_id
      and (is_closed = 1 or changed_at > asked.created_at))`,
  ]
  return conditions.join('\n    and ')
}

export type ObstacleRow = { blocked: number; paused_until: number | null; unsettled_short: number } & {
  [name in Counted]?: number
} & { [until in `${Counted}_until`]?: number | null }

/** What stands in the way of a request that was not accepted. */
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

export function weightiest(row: ObstacleRow, limits: RequestLimits): ReachedLimit | undefined {
  if (row.blocked > 0) return { limit: 'blocked', until: undefined }
  if (row.paused_until !== null) return { limit: 'pauseAfterDenial', until: row.paused_until }
  if (row.unsettled_short > 0) return { limit: 'pauseAfterDenial', until: undefined }
  const found = countsOf(limits).find(({ name, most }) => row[name]! >= most)
  return found && { limit: found.limit, until: row[`${found.name}_until`] ?? undefined }
}
