/** Finds and lists authentication requests. */
import { fingerprint } from '../../platform/crypto.ts'
import { writeBatch } from '../../platform/storage/batch.ts'
import { atMostRows, type Database } from '../../platform/storage/database.ts'
import type { OnUnreadable } from '../../platform/unreadable-values.ts'
import { ofPresentPerson } from '../../user/user-generation-store.ts'
import type { AuthenticationRequest } from './authentication-request.ts'
import { its, type RequestRow, toRequest } from './request-row.ts'

/** A request, and the data about its polls from its row. */
export interface PolledRequest {
  request: AuthenticationRequest
  /** The time of the last poll by the clock of the database, in milliseconds since 1970; 0 if never polled. */
  lastPolledAt: number
  /** The interval that the client was told in the acknowledgement, in seconds. */
  firstInterval: number
  /** The number of consecutive polls that were not too early since the interval was lengthened. */
  keptPolls: number
}

const isOpen = (now: string) => `status = 'pending' and expires_at > ${now}`

/** Finds single requests. */
export function requestsFoundIn(database: Database, onUnreadable?: OnUnreadable) {
  /**
   * Returns a function that finds a request by a column with a unique index. Concurrent calls are combined into one
   * query.
   */
  function finds(column: 'id' | 'auth_req_id_hash'): (value: string) => Promise<RequestRow | undefined> {
    const sql = `select * from backchannel_auth_requests where ${column} in (select value from each($1))`
    return writeBatch<string, RequestRow | undefined>({
      async execute(values) {
        const rows = await database.read<RequestRow>(sql, [JSON.stringify([...new Set(values)])])
        const found = new Map(rows.map((row) => [row[column], row]))
        return values.map((value) => found.get(value))
      },
    })
  }

  /**
   * Like `finds`, but leaves out requests about other users, and requests about an earlier person who had the same user
   * id.
   */
  function findsForUser(column: 'id' | 'auth_req_id_hash') {
    interface Asked {
      userId: string
      value: string
    }
    const sql = `select backchannel_auth_requests.* from rows($1) as asked (user_id text, value text)
      join backchannel_auth_requests
        on backchannel_auth_requests.${column} = asked.value and backchannel_auth_requests.user_id = asked.user_id
      where ${ofPresentPerson('backchannel_auth_requests', 'created_at', 'asked.user_id')}`
    return writeBatch<Asked, RequestRow | undefined>({
      async execute(asked) {
        const rows = asked.map(({ userId, ...each }) => ({ user_id: userId, ...each }))
        const found = await database.read<RequestRow>(sql, [JSON.stringify(rows)])
        const byValue = new Map(found.map((row) => [row[column], row]))
        return asked.map(({ userId, value }) => {
          const row = byValue.get(value)
          return row?.user_id === userId ? row : undefined
        })
      },
    })
  }

  const findById = finds('id')
  const findByHash = finds('auth_req_id_hash')
  const findByIdForUser = findsForUser('id')
  const findByHashForUser = findsForUser('auth_req_id_hash')

  return {
    async find(id: string): Promise<AuthenticationRequest | undefined> {
      const row = await findById(id)
      return row && toRequest(row, onUnreadable)
    },

    async findByAuthReqId(authReqId: string): Promise<AuthenticationRequest | undefined> {
      const row = await findByHash(fingerprint(authReqId))
      return row && toRequest(row, onUnreadable)
    },

    /**
     * Finds a request that the user may see and decide. The request must be about this user, and not about an earlier
     * person who had the same user id.
     */
    async findForUser(
      userId: string,
      named: { id: string } | { authReqId: string },
    ): Promise<AuthenticationRequest | undefined> {
      const row =
        'id' in named
          ? await findByIdForUser({ userId, value: named.id })
          : await findByHashForUser({ userId, value: fingerprint(named.authReqId) })
      return row && toRequest(row, onUnreadable)
    },

    /**
     * Finds a request by the hash of its `auth_req_id`, so that its polls can be counted in memory. Resolves to
     * undefined if the request is unknown or belongs to another client.
     */
    async findPolled(authReqIdHash: string, clientId: string): Promise<PolledRequest | undefined> {
      const row = await findByHash(authReqIdHash)
      if (row?.client_id !== clientId) return undefined
      return {
        request: toRequest(row, onUnreadable),
        lastPolledAt: row.last_polled_at ?? 0,
        firstInterval: row.first_interval_seconds ?? row.interval_seconds,
        keptPolls: row.kept_polls ?? 0,
      }
    },
  }
}

/** Returns the functions that list at most `limit` requests, and the functions that count or check pending requests. */
export function requestsListedIn(database: Database, onUnreadable?: OnUnreadable) {
  const toRequests = (rows: RequestRow[]) => rows.map((row) => toRequest(row, onUnreadable))

  return {
    /** Resolves to the number of pending requests. */
    async countOpen(now: number): Promise<number> {
      const [row] = await database.read<{ number: number }>(
        `select count(*) as number from backchannel_auth_requests where status in ('pending', 'approved') and status = 'pending' and redeemed_at is null and expires_at > $1`,
        [now],
      )
      return row!.number
    },

    /** Resolves to those ids in `ids` that belong to requests with the stored status `pending`. */
    async stillPending(ids: string[]): Promise<Set<string>> {
      const rows = await database.read<{ id: string }>(
        `select id from backchannel_auth_requests where ${its('status')} = 'pending' and id in (select value from each($1))`,
        [JSON.stringify(ids)],
      )
      return new Set(rows.map(({ id }) => id))
    },

    /**
     * Resolves to the requests about a user, newest first. Requests about an earlier person who had the same user id
     * are left out. The SQL for `open` has no condition on the person, because no request about an earlier person is
     * pending.
     *
     * @param only `open` lists only pending requests whose deadline has not passed
     */
    async listForUser(
      userId: string,
      only: 'open' | 'all',
      now: number,
      limit = 100,
    ): Promise<AuthenticationRequest[]> {
      const [condition, values] =
        only === 'open'
          ? [isOpen('$2'), [userId, now]]
          : [ofPresentPerson('backchannel_auth_requests', 'created_at'), [userId]]
      const rows = await database.read<RequestRow>(
        `select * from backchannel_auth_requests where user_id = $1 and ${condition}
         order by created_at desc, id desc ${atMostRows(limit)}`,
        values,
      )
      return toRequests(rows)
    },

    /**
     * Resolves to the newest requests about all users, for the operator. With `open`, only pending requests are listed.
     * With `all`, the requests are sorted by id, because ids grow with time and have an index.
     */
    async list(only: 'open' | 'all', now: number, limit = 100): Promise<AuthenticationRequest[]> {
      const rows =
        only === 'open'
          ? await database.read<RequestRow>(
              `select * from backchannel_auth_requests
               where status in ('pending', 'approved') and status = 'pending' and redeemed_at is null and expires_at > $1
               order by created_at desc, id desc ${atMostRows(limit)}`,
              [now],
            )
          : await database.read<RequestRow>(
              `select * from backchannel_auth_requests order by id desc ${atMostRows(limit)}`,
            )
      return toRequests(rows)
    },

    /**
     * Resolves to requests whose deadline has passed, but whose stored status is still `pending` or `approved`. The
     * request with the oldest deadline comes first.
     */
    async runOut(now: number, limit: number): Promise<AuthenticationRequest[]> {
      const rows = await database.read<RequestRow>(
        `select * from backchannel_auth_requests
         where status in ('pending', 'approved') and redeemed_at is null and expires_at <= $1 order by expires_at ${atMostRows(limit)}`,
        [now],
      )
      return toRequests(rows)
    },
  }
}
