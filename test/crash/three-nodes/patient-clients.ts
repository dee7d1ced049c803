import { setTimeout as pause } from 'node:timers/promises'
import { CIBA, credentials } from '../../support/stage.ts'
import type { Ask } from './balancer.ts'
import { nodeOrders } from './flows.ts'
import { type Findings, goesOn, type Play, type Progress, userNames } from './play.ts'

/** Returns a function that runs a client that keeps its interval until the end. */
export function createPatientClients(ask: Ask, play: Play, progress: Progress, { count, blame }: Findings) {
  /** Polls all nodes in turn, never within the interval; the request is never decided. */
  async function waitPatiently(number: number): Promise<void> {
    const order = nodeOrders[number]!
    const form = { scope: 'openid', login_hint: userNames[number]! }
    const response = await ask(order[0], '/backchannel/authorize', form, credentials.kiosk)
    progress.patientRings += 1
    const poll = { grant_type: CIBA, auth_req_id: String(response.body.auth_req_id) }
    let interval = Number(response.body.interval)
    for (let turn = 1; goesOn(play, progress); turn++) {
      const { body, doubts } = await ask(order[turn % 3]!, '/oauth/token', poll, credentials.kiosk)
      if (body.error === 'expired_token') return waitPatiently(number)
      count('polls by clients that keep their interval')
      if (body.error === 'slow_down') {
        interval += 5
        if (doubts.length === 0) count('slow_down to clients that keep their interval')
      } else if (body.error !== 'authorization_pending')
        blame('wrongAnswers', `a patient poll: ${JSON.stringify(body)}`)
      for (let left = interval * 1000 + 50; left > 0 && goesOn(play, progress); left -= 250) await pause(250)
    }
  }

  return waitPatiently
}
