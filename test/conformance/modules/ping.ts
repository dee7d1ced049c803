/** A misbehaving notification endpoint: the tokens can be redeemed nevertheless (fapi-ciba.md §3.2). */
import assert from 'node:assert/strict'
import type { ReceiverPace } from '../../support/notification-endpoint.ts'
import type { Modules } from '../plan.ts'
import type { Suite } from '../suite.ts'

export const pingOnly: Modules = {
  'fapi-ciba-id1-ping-backchannel-notification-endpoint-response-has-body': (suite) =>
    flowWhileItAnswers(suite, { status: 200, body: 'a text that is ignored' }),
  'fapi-ciba-id1-ping-backchannel-notification-endpoint-response-401': (suite) => flowWhileItAnswers(suite, 401),
  'fapi-ciba-id1-ping-backchannel-notification-endpoint-response-403': (suite) => flowWhileItAnswers(suite, 403),
  'fapi-ciba-id1-ping-with-mtls-ciba-notification-endpoint-response-401-and-require-server-does-not-retry': (suite) =>
    flowWhileItAnswers(suite, 401, 5),
  'fapi-ciba-id1-ping-backchannel-notification-endpoint-return-redirect-request': (suite) =>
    flowWhileItAnswers(
      suite,
      { status: 301, headers: { location: suite.endpoint.url.replace('/notify', '/moved') } },
      15,
    ),
}

async function flowWhileItAnswers(suite: Suite, manner: ReceiverPace, seconds = 0): Promise<void> {
  suite.endpoint.behaves(manner)
  try {
    const flow = await suite.start(suite.first)
    assert.equal(Math.floor((await suite.decide(flow.authReqId, 'allow')).status / 100), 2, 'AH-2')
    await suite.pinged(flow)
    suite.waitSeconds(seconds)
    await suite.stage.doorbell.idle()
    assert.deepEqual(suite.endpoint.heard, [], 'called once, and nowhere else')
    await suite.checkTokens(suite.first, await suite.poll(suite.first, flow.authReqId))
  } finally {
    suite.endpoint.behaves(204)
  }
}
