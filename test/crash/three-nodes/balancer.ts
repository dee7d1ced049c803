/** The balancer in front of the nodes, and clients that retry without a response. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Cluster, Node } from './cluster.ts'
import type { Doubt, Findings, Json, Progress } from './play.ts'

export interface Answer {
  status: number
  body: Json
  /** Earlier attempts with an unknown outcome: the connection broke, there was no response, or it was a 503. */
  doubts: Doubt[]
}

/** POSTs to a path, first at this node. Resolves to a response that is not a 5xx. */
export type Ask = (node: number, path: string, form: Record<string, string>, authorization: string) => Promise<Answer>

export function createBalancer({ nodes, send }: Cluster, progress: Progress, { count, blame }: Findings): Ask {
  async function ask(first: number, path: string, form: Record<string, string>, authorization: string) {
    const doubts: Doubt[] = []
    const deadline = performance.now() + 120_000
    for (let turn = 0; !progress.failed && performance.now() < deadline; turn++) {
      const node = chooseNode(first + turn)
      const sentAt = performance.now()
      const answer = await send(node, path, form, authorization).catch((error: Error) => {
        node.awayUntil = performance.now() + 500
        doubts.push(/timeout|aborted/i.test(`${error.name} ${error.message}`) ? 'no answer in time' : 'connection lost')
        count(`attempts without a response: ${doubts.at(-1)}`)
      })
      if (answer === undefined) continue
      if (answer.status < 500) return { ...answer, doubts } satisfies Answer
      count(`answers ${answer.status}`)
      const away = progress.databaseAway
      const isExcused = away !== undefined && sentAt <= away.until && performance.now() >= away.from
      if (answer.status !== 503 || !answer.retryAfter || !isExcused) {
        blame('wrong5xx', `${path} at node ${node.number}: ${answer.status} ${JSON.stringify(answer.body)}`)
      }
      doubts.push('answered 503')
      await pause(100)
    }
    throw new Error(`no response to ${path}`)
  }

  function chooseNode(number: number): Node {
    const inTurn = [0, 1, 2].map((step) => nodes[(number + step) % 3]!)
    return inTurn.find(({ awayUntil }) => awayUntil < performance.now()) ?? inTurn[0]!
  }

  return ask
}
