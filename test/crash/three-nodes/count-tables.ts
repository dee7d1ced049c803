import { Pool } from 'pg'
import { until } from '../../support/until.ts'
import type { Findings, Progress } from './play.ts'

/** Compares what clients and users were told with the tables. */
export async function countTables(url: string, progress: Progress, { count, blame }: Findings): Promise<void> {
  const pool = new Pool({ connectionString: url, max: 1 })
  try {
    const unsent = `select count(*)::int as many from notifications where state in ('waiting', 'sending')`
    await until(async () => (await pool.query(unsent)).rows[0].many === 0, 60_000).catch(() => {})
    const { rows } = await pool.query(
      `select id, status,
         (select string_agg(outcome, ' ') from backchannel_auth_consent_history where request_id = r.id) as outcomes,
         (select count(*)::int from oidc_models where model = 'AccessToken' and request_id = r.id) as tokens,
         (select string_agg(state, ' ') from notifications
          where subject = r.id and kind in ('ping', 'push')) as letters
       from backchannel_auth_requests r`,
    )
    const byId = new Map(rows.map((row) => [row.id as string, row]))
    for (const { requestId, wanted, client } of progress.flows) {
      const { status, outcomes, tokens, letters } = byId.get(requestId) ?? {}
      const should =
        wanted === 'denied' || client === 'till' ? { denied: 'denied', approved: 'redeemed' }[wanted] : 'redeemed'
      if (status !== should || outcomes !== wanted) blame('decisionsLost', `${requestId}: ${status}, ${outcomes}`)
      if (tokens > 1) blame('doubleRedemptions', `${requestId} has ${tokens} access tokens`)
      if (wanted === 'approved' && tokens === 0) blame('decisionsLost', `${requestId} has no access token`)
      if (letters !== (client === 'kiosk' ? null : 'delivered')) blame('notificationsLost', `${requestId}: ${letters}`)
    }
    const more = await pool.query(
      `select count(*) filter (where attempts > 1)::int as again, count(*) filter (where state = 'parked')::int as parked
       from notifications where kind in ('ping', 'push')`,
    )
    count('notifications that took more than one attempt', more.rows[0].again)
    count('notifications parked', more.rows[0].parked)
    count('requests whose response was lost', rows.length - progress.begun - progress.patientRings)
  } finally {
    await pool.end()
  }
}
