/**
 * Forms whose content type names a character set, as some HTTP libraries send them by default (RFC 6749 appendix B).
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { engines } from '../support/engines.ts'
import { CIBA, credentials, openStage, type Stage } from '../support/stage.ts'

const form = 'application/x-www-form-urlencoded'
/** What `new UrlEncodedFormEntity(parameters)` of Apache HttpClient 5.5 sends for "Coffee 4,20". */
const sentByApache = {
  type: `${form}; charset=ISO-8859-1`,
  body: 'scope=openid+offline_access&login_hint=ana%40example.com&binding_message=Coffee+4%2C20',
}

async function send(stage: Stage, path: string, type: string, body: string) {
  const headers = { 'content-type': type, authorization: credentials.kiosk }
  const answer = await fetch(stage.url + path, { method: 'POST', headers, body })
  const text = await answer.text()
  return { status: answer.status, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>, text }
}

for (const engine of engines) {
  describe(`the character set of a form, on ${engine.name}:`, () => {
    test('a form that says ISO-8859-1, and has ASCII alone, is read at every endpoint of a flow', async (t) => {
      const stage = await openStage(t, { engine })
      const post = async (path: string, fields: Record<string, unknown>) => {
        const body = String(new URLSearchParams(fields as Record<string, string>))
        const answer = await send(stage, path, sentByApache.type, body)
        assert.equal(answer.status, 200, `${path}: ${answer.text}`)
        return answer.body
      }
      const asked = await send(stage, '/backchannel/authorize', sentByApache.type, sentByApache.body)
      assert.equal(asked.status, 200, asked.text)
      const [shown] = await stage.waiting()
      assert.equal(shown!.binding_message, 'Coffee 4,20')
      await stage.decide(shown!.request_id, 'approved')
      const { auth_req_id } = asked.body
      const tokens = await post('/oauth/token', { grant_type: CIBA, auth_req_id })
      const { refresh_token } = tokens
      const refreshed = await post('/oauth/token', { grant_type: 'refresh_token', refresh_token })
      const token = refreshed.access_token
      assert.equal((await post('/oauth/introspect', { token })).active, true)
      await post('/oauth/revoke', { token })
      assert.equal((await post('/oauth/introspect', { token })).active, false)
    })

    test('with characters beyond ASCII it is refused, and the reason names UTF-8', async (t) => {
      const stage = await openStage(t, { engine })
      const variants: [name: string, type: string, message: string, status: number][] = [
        ['UTF-8 without saying so', form, 'Caf%C3%A9', 200],
        ['UTF-8', `${form};charset=UTF-8`, 'Caf%C3%A9', 200],
        ['ISO-8859-1 with its own byte', sentByApache.type, 'Caf%E9', 400],
        ['ISO-8859-1 with the bytes of UTF-8', sentByApache.type, 'Caf%C3%A9', 400],
        ['US-ASCII', `${form}; charset="us-ascii"`, 'Cafe', 200],
        ['UTF-16', `${form}; charset=utf-16`, 'Cafe', 400],
        ['two character sets', `${form}; charset=utf-8; charset=utf-16`, 'Cafe', 400],
      ]
      for (const [name, type, message, status] of variants) {
        const body = `scope=openid&login_hint=ana&binding_message=${message}`
        const answer = await send(stage, '/backchannel/authorize', type, body)
        assert.equal(answer.status, status, `${name}: ${answer.text}`)
        if (status === 200) continue
        const refusal = {
          error: 'invalid_request',
          error_description: 'the body must be UTF-8, not of another character set',
        }
        assert.deepEqual(answer.body, refusal, name)
      }
      assert.deepEqual(new Set((await stage.waiting()).map((each) => each.binding_message)), new Set(['Café', 'Cafe']))
    })
  })
}
