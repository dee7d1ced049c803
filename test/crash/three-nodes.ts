/**
 * Three servers on one Postgres, each a separate process, with clocks up to two seconds apart. Clients send requests to
 * one, users decide at another, clients redeem at a third; meanwhile nodes are killed and stopped, Postgres is
 * unreachable for a while, and announcements are cut off. In the end all broken guarantees are counted.
 */
import { startRestartablePostgres } from '../support/postgres.ts'
import { createBalancer } from './three-nodes/balancer.ts'
import { openClientsEnd } from './three-nodes/clients-end.ts'
import { openCluster } from './three-nodes/cluster.ts'
import { countTables } from './three-nodes/count-tables.ts'
import { disturb } from './three-nodes/disturbances.ts'
import { createFlowPlay, nodeOrders } from './three-nodes/flows.ts'
import { createPatientClients } from './three-nodes/patient-clients.ts'
import { createFindings, goesOn, type Play, type Progress, type Report } from './three-nodes/play.ts'

export type { LetDown, Play, Report } from './three-nodes/play.ts'

/** Resolves when all flows are over and all tables have been compared. */
export async function playThreeNodes(play: Play): Promise<Report> {
  const end: (() => Promise<unknown>)[] = []
  try {
    return await playWith(play, end)
  } finally {
    for (const each of end.reverse()) await each().catch(() => {})
  }
}

async function playWith(play: Play, end: (() => Promise<unknown>)[]): Promise<Report> {
  const begin = performance.now()
  const postgres = await startRestartablePostgres({ durable: play.durable })
  end.push(postgres.stop)
  const clientsEnd = await openClientsEnd()
  end.push(clientsEnd.close)
  const cluster = await openCluster(play, postgres.url, clientsEnd.url)
  end.push(cluster.close)
  const progress: Progress = { begun: 0, flows: [], patientRings: 0, happened: false, failed: false }
  const findings = createFindings()
  const { letDown, facts, complaints, count, blame } = findings
  const ask = createBalancer(cluster, progress, findings)
  const playFlow = createFlowPlay({ ask, clientsEnd, progress, findings })
  const waitPatiently = createPatientClients(ask, play, progress, findings)

  async function load(): Promise<void> {
    while (goesOn(play, progress)) {
      progress.begun += 1
      await playFlow(progress.begun - 1).catch((error: unknown) => blame('wrongAnswers', String(error)))
    }
  }

  await Promise.all([
    disturb({ play, postgres, clientsEnd, cluster, progress, findings }).catch((error: unknown) => {
      progress.failed = true
      play.say(JSON.stringify({ letDown, facts, complaints, logged: cluster.logged() }, null, 2))
      throw error
    }),
    ...Array.from({ length: play.atOnce }, load),
    ...nodeOrders.map((_, number) => waitPatiently(number)),
  ])
  play.say(`${progress.begun} flows begun: all are over`)
  for (const node of cluster.nodes) {
    if (!(await cluster.isUp(node))) blame('nodesLost', `node ${node.number} is gone`)
  }
  await countTables(postgres.url, progress, findings)
  count('flows', progress.begun)
  count('clients notified more than once', clientsEnd.repeated())
  for (const words of clientsEnd.complaints) blame('doubleRedemptions', words)
  return { letDown, facts, complaints, logged: cluster.logged(), seconds: (performance.now() - begin) / 1000 }
}
