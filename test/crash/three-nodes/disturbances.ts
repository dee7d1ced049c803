/** Failures of nodes, of Postgres and of announcements during the flows. */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import type { startRestartablePostgres } from '../../support/postgres.ts'
import { until } from '../../support/until.ts'
import type { ClientsEnd } from './clients-end.ts'
import type { Cluster } from './cluster.ts'
import type { Findings, Play, Progress } from './play.ts'

type Postgres = Awaited<ReturnType<typeof startRestartablePostgres>>

export interface Disturbed {
  play: Play
  postgres: Postgres
  clientsEnd: ClientsEnd
  cluster: Cluster
  progress: Progress
  findings: Findings
}

/** Runs all disturbances one after the other, evenly over the run. Resolves when all have ended. */
export async function disturb({ play, postgres, clientsEnd, cluster, progress, findings }: Disturbed): Promise<void> {
  const nodeEnds = createNodeEnds({ play, clientsEnd, cluster, findings })
  const databaseEnds = createDatabaseEnds(postgres, progress, findings)
  const happenings = {
    'announcements are cut off': databaseEnds.announcementsCut,
    'a node is killed': nodeEnds.nodeKilled,
    'Postgres is restarted': databaseEnds.postgresRestarted('told'),
    'Postgres crashes': databaseEnds.postgresRestarted('crashed'),
    'a node is stopped': nodeEnds.nodeStopped,
  }
  const entries = Object.entries(happenings)
  for (const [index, [name, happens]] of entries.entries()) {
    await until(() => progress.begun >= (play.flows * (index + 1)) / (entries.length + 2), 1_200_000)
    play.say(`${progress.begun} flows begun: ${name}`)
    await happens()
    await pause(1000)
  }
  progress.happened = true
}

function createDatabaseEnds(postgres: Postgres, progress: Progress, { count }: Findings) {
  async function announcementsCut(): Promise<void> {
    const client = new Client(postgres.url)
    await client.connect()
    for (let time = 0; time < 3; time++) {
      const { rowCount } = await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = 'doorbell' and (query = 'listen doorbell' or query like '%clock_timestamp()%')`,
      )
      count('LISTEN connections terminated', rowCount ?? 0)
      await pause(500)
    }
    await client.end()
  }

  const postgresRestarted = (how: 'told' | 'crashed') => async () => {
    const from = performance.now()
    progress.databaseAway = { from, until: Number.POSITIVE_INFINITY }
    await postgres.end(how)
    await pause(1000)
    await postgres.start()
    progress.databaseAway = { from, until: performance.now() }
    count(`Postgres ${how === 'told' ? 'restarted' : 'crashed and started again'}`)
  }

  return { announcementsCut, postgresRestarted }
}

function createNodeEnds({ play, clientsEnd, cluster, findings }: Omit<Disturbed, 'postgres' | 'progress'>) {
  const { nodes } = cluster
  const { count, blame } = findings
  // With more than sixteen messages in progress each node has some: none has more than four for each of two clients.
  const manyCalls = Math.min(play.atOnce - 1, 18)

  async function nodeKilled(): Promise<void> {
    const node = nodes[0]!
    let wasFelt = false
    // All waiting calls may come from other nodes: then another node is killed.
    for (let time = 0; time < play.kills || (!wasFelt && time < play.kills + 5); time++) {
      await clientsEnd.holds(manyCalls)
      const before = clientsEnd.cutOff
      await node.process.kill()
      // The end of its connections must be noticed before the others are answered.
      await pause(100)
      clientsEnd.release()
      await pause(1000)
      count('nodes killed')
      count('calls to clients cut off by a kill', clientsEnd.cutOff - before)
      wasFelt ||= clientsEnd.cutOff > before
      await cluster.start(node)
    }
  }

  async function nodeStopped(): Promise<void> {
    const node = nodes[1]!
    await clientsEnd.holds(manyCalls)
    node.process.pause()
    clientsEnd.release()
    await pause(play.stopped)
    node.process.goOn()
    count('nodes stopped for a while')
    await until(() => cluster.isUp(node), 10_000).catch(() => blame('nodesLost', `node ${node.number} is not back`))
  }

  return { nodeKilled, nodeStopped }
}
