/** Clients and users: a request at one node, a decision at another, polls at a third. */
import { randomInt } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { CIBA, credentials, newNotificationToken } from '../../support/stage.ts'
import type { Ask } from './balancer.ts'
import type { ClientsEnd } from './clients-end.ts'
import { clientNames, type Doubt, type Findings, type Flow, type Json, type Progress, userNames } from './play.ts'

/** The order in which a flow uses the nodes. */
export const nodeOrders = [
  [0, 1, 2],
  [1, 2, 0],
  [2, 0, 1],
  [0, 2, 1],
  [2, 1, 0],
  [1, 0, 2],
] as const

interface FlowNeeds {
  ask: Ask
  clientsEnd: ClientsEnd
  progress: Progress
  findings: Findings
}

/** Returns a function that runs one flow, from the request to the tokens. */
export function createFlowPlay({ ask, clientsEnd, progress, findings: { count, blame } }: FlowNeeds) {
  const { collect, checkPush } = createCollector(ask, { count, blame })

  async function playFlow(number: number): Promise<void> {
    const client = clientNames[number % 3]!
    const [ringsAt, decidesAt, asksAt] = nodeOrders[Math.floor(number / 3) % nodeOrders.length]!
    const user = userNames[randomInt(userNames.length)]!
    const wanted = randomInt(100) < 85 ? 'approved' : 'denied'

    const bearer = newNotificationToken()
    const form = { scope: 'openid', login_hint: user, client_notification_token: bearer }
    const response = await ask(ringsAt, '/backchannel/authorize', form, credentials[client])
    if (response.status !== 200)
      return blame('wrongAnswers', `a request: ${response.status} ${JSON.stringify(response.body)}`)
    const authReqId = String(response.body.auth_req_id)
    if (client !== 'kiosk') clientsEnd.expect(authReqId, bearer)

    const look = { login_hint: user, auth_req_id: authReqId }
    const seen = await ask(decidesAt, '/backchannel/authinfo', look, credentials.phoneService)
    const requestId = (seen.body.requests as Json[] | undefined)?.[0]?.request_id
    if (typeof requestId !== 'string') return blame('wrongAnswers', `the user sees ${JSON.stringify(seen.body)}`)
    const flow: Flow = { number, client, wanted, requestId, authReqId, givenUp: [] }
    if (client !== 'till') {
      const poll = await ask(asksAt, '/oauth/token', pollOf(flow), credentials[client])
      flow.givenUp.push(...poll.doubts)
      const isEarly = poll.body.error === 'slow_down' && poll.doubts.length > 0
      if (poll.body.error !== 'authorization_pending' && !isEarly)
        blame('wrongAnswers', `a first poll: ${poll.status} ${JSON.stringify(poll.body)}`)
    }

    const decision = { login_hint: user, request_id: requestId, status: wanted }
    const decided = await ask(decidesAt, '/backchannel/complete', decision, credentials.phoneService)
    const stands = decided.status === 200 || (decided.status === 409 && decided.doubts.length > 0)
    if (!stands) return blame('wrongAnswers', `a decision: ${decided.status} ${JSON.stringify(decided.body)}`)
    progress.flows.push(flow)
    count(wanted)

    if (client !== 'kiosk') {
      const told = await clientsEnd.told(authReqId, 60_000).catch(() => undefined)
      if (told === undefined) return blame('notificationsLost', `${client} is not told of ${requestId}`)
      if (client === 'till') return checkPush(flow, told)
    }
    await collect(flow, asksAt, ringsAt)
  }

  return playFlow
}

/** Returns functions by which a client gets its tokens, or its denial. */
function createCollector(ask: Ask, { count, blame }: Pick<Findings, 'count' | 'blame'>) {
  /** Polls two nodes at the same time: after an approval, one of them returns the tokens. */
  async function collect(flow: Flow, ...at: [number, number]): Promise<void> {
    const { client, wanted, requestId, givenUp } = flow
    const doubts: Doubt[] = []
    const deadline = performance.now() + 20_000
    let heard: unknown[] = []
    while (performance.now() < deadline) {
      const answers = await Promise.all(at.map((node) => ask(node, '/oauth/token', pollOf(flow), credentials[client])))
      for (const answer of answers) doubts.push(...answer.doubts)
      heard = answers.map(({ status, body }) => [status, body.error, body.error_description])
      const tokens = answers.filter(({ status }) => status === 200)
      const errors = new Set(answers.map(({ body }) => body.error))
      if (tokens.length > 1) return blame('doubleRedemptions', requestId)
      if (wanted === 'denied' && errors.has('access_denied')) return
      if (tokens.length === 1 && wanted === 'approved') {
        const [{ access_token: token }] = [tokens[0]!.body]
        const third = 3 - at[0] - at[1]
        const again = await ask(third, '/oauth/token', pollOf(flow), credentials[client])
        if (again.status === 200) blame('doubleRedemptions', requestId)
        if (flow.number % 10 === 0) await checkToken(third, String(token))
        return
      }
      if (errors.has('invalid_grant')) {
        // Redeemed, and the response was lost: with its node, or because the caller had stopped waiting.
        if (doubts.length > 0) return count(`answers with tokens lost: ${[...new Set(doubts)].join(', ')}`)
        break
      }
      if (!errors.has('authorization_pending') && !errors.has('slow_down')) break
      count('polls that returned a decision later than its user saw it')
      await pause(100)
    }
    const instead = JSON.stringify({ heard, givenUp })
    blame('decisionsLost', `${client} does not learn that ${requestId} was ${wanted}: ${instead}`)
  }

  async function checkToken(node: number, token: string): Promise<void> {
    const { status } = await ask(node, '/oauth/userinfo', { access_token: token }, '')
    if (status !== 200) blame('wrongAnswers', `userinfo: ${status}`)
  }

  function checkPush({ wanted, requestId }: Flow, body: Json): void {
    const isRight = wanted === 'denied' ? body.error === 'access_denied' : typeof body.access_token === 'string'
    if (!isRight) blame('decisionsLost', `till was told ${Object.keys(body)} of ${requestId}, ${wanted}`)
  }

  return { collect, checkPush }
}

const pollOf = ({ authReqId }: Flow) => ({ grant_type: CIBA, auth_req_id: authReqId })
