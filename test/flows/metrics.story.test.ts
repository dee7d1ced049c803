/** Metrics for Prometheus: access and content. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, type TestContext, test } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { openNotificationEndpoint } from '../support/notification-endpoint.ts'
import { signIn, startSignIn } from '../support/phone-app.ts'
import { ana, basic, openStage, type Stage } from '../support/stage.ts'
import { open, opened, poll } from './registration-calls.ts'

const nowhere = 'https://client.example/notify'
const production = { development: false, issuer: 'https://id.example' }

function openInProduction(t: TestContext, config: ConfigInput): Promise<Stage> {
  return openStage(t, { northbank: nowhere, till: nowhere, config: { ...production, ...config } })
}

describe('access to the metrics', () => {
  test('outside development: disabled until a caller is configured; the address does not exist', async (t) => {
    const stage = await openInProduction(t, {})
    assert.equal((await stage.get('/metrics')).status, 404)
    const off = await openInProduction(t, { metrics: { enabled: false, from: ['127.0.0.1'] } })
    assert.equal((await off.get('/metrics')).status, 404)
  })

  test('with the token; refused with another or none, even from this machine', async (t) => {
    const token = newSecret()
    const stage = await openInProduction(t, { metrics: { token } })
    assert.equal((await stage.get('/metrics', { authorization: `Bearer ${token}` })).status, 200)
    for (const authorization of ['', `Bearer ${newSecret()}`, `Bearer ${token}x`, `Basic ${token}`, token]) {
      const { status, headers, text } = await stage.get('/metrics', { ...(authorization && { authorization }) })
      assert.equal(status, 401, authorization)
      assert.match(String(headers.get('www-authenticate')), /^Bearer/)
      assert.ok(!text.includes('doorbell_'))
    }
    assert.equal((await stage.get(`/metrics?token=${token}`)).status, 401, 'a token in the URL is not accepted')
    assert.ok(!stage.logLines.join('').includes(token))
  })

  test('from a named address; behind a trusted proxy the address before the proxy counts', async (t) => {
    const stage = await openInProduction(t, { metrics: { from: ['127.0.0.0/8'] } })
    assert.equal((await stage.get('/metrics')).status, 200)
    const elsewhere = await openInProduction(t, { metrics: { from: ['10.0.0.0/8', '2001:db8::/32'] } })
    assert.equal((await elsewhere.get('/metrics')).status, 404)
    assert.equal((await elsewhere.get('/metrics', { 'x-forwarded-for': '10.1.2.3' })).status, 404, 'only a claim')

    const behind = await openInProduction(t, {
      proxy: { trust: ['127.0.0.1'] },
      metrics: { from: ['127.0.0.1', '10.0.0.0/8'] },
    })
    assert.equal((await behind.get('/metrics', { 'x-forwarded-for': '10.1.2.3' })).status, 200)
    assert.equal((await behind.get('/metrics', { 'x-forwarded-for': '198.51.100.7' })).status, 404)
    assert.equal((await behind.get('/metrics', { 'x-forwarded-for': '10.1.2.3, 198.51.100.7' })).status, 404)
  })

  test('in development: from this machine, unless switched off; only GET', async (t) => {
    const stage = await openStage(t)
    const { status, headers } = await stage.get('/metrics')
    assert.equal(status, 200)
    assert.equal(headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.equal((await stage.post('/metrics', {})).status, 405)
    const off = await openStage(t, { config: { metrics: false } })
    assert.equal((await off.get('/metrics')).status, 404)
  })
})

describe('content of the metrics', () => {
  test("every event, counted once; no label comes from a caller's input", async (t) => {
    const endpoint = await openNotificationEndpoint(t)
    endpoint.behaves(204, 400)
    const limits = { perClientAndUser: { perMinute: 3 } }
    const stage = await openStage(t, { northbank: endpoint.url, till: endpoint.url, config: { limits } })
    const before = await numbersOf(stage)
    assert.equal(before.doorbell_requests_open, 0)

    const made = newSecret()
    await stage.ring('kiosk', { scope: `openid ${made}` })
    await stage.post('/backchannel/authorize', { scope: 'openid', login_hint: 'ana' }, basic(made, made))
    await stage.get(`/${made}`)
    const { body } = await stage.ring('kiosk')
    await stage.poll('kiosk', body.auth_req_id)
    await stage.poll('kiosk', body.auth_req_id)
    await stage.decide(await stage.newestRequest(), 'approved')
    await stage.poll('kiosk', body.auth_req_id)
    await stage.poll('kiosk', made)
    for (const status of ['denied', 'approved'] as const) {
      await stage.ring('northbank')
      await stage.decide(await stage.newestRequest(), status)
      await stage.doorbell.idle()
    }
    await stage.ring('kiosk')
    await stage.ring('kiosk')
    assert.equal((await stage.ring('kiosk')).status, 429)
    await signIn(stage)
    const { browser, page } = await startSignIn(stage)
    await browser.submit(page, { name: 'ana', password: made })
    await stage.doorbell.idle()

    assert.equal((await numbersOf(stage)).doorbell_requests_open, 0, 'counted ten seconds ago at most')
    stage.clock.advance(10_000)
    const { text } = await stage.get('/metrics')
    const now = parse(text)
    const expected = {
      'doorbell_requests_total{client="kiosk",result="accepted"}': 3,
      'doorbell_requests_total{client="kiosk",result="invalid_scope"}': 1,
      'doorbell_requests_total{client="kiosk",result="access_denied"}': 1,
      'doorbell_requests_total{client="northbank",result="accepted"}': 2,
      'doorbell_limits_reached_total{limit="perClientAndUser.perMinute"}': 1,
      'doorbell_clients_refused_total{outcome="invalid_client"}': 1,
      'doorbell_decisions_total{outcome="approved"}': 2,
      'doorbell_decisions_total{outcome="denied"}': 1,
      'doorbell_tokens_issued_total{by="poll"}': 1,
      'doorbell_tokens_issued_total{by="authorization_code"}': 1,
      'doorbell_polls_total{answer="authorization_pending"}': 1,
      'doorbell_polls_total{answer="slow_down"}': 1,
      'doorbell_polls_total{answer="issue_tokens"}': 1,
      'doorbell_polls_total{answer="invalid_grant"}': 1,
      'doorbell_notifications_total{kind="ping",outcome="delivered"}': 1,
      'doorbell_notifications_total{kind="ping",outcome="parked"}': 1,
      'doorbell_notifications_total{kind="mailbox",outcome="delivered"}': 5,
      'doorbell_sign_ins_total{result="succeeded"}': 1,
      'doorbell_sign_ins_total{result="failed"}': 1,
      doorbell_requests_open: 2,
      'doorbell_outbox_notifications{state="waiting"}': 0,
      'doorbell_outbox_notifications{state="sending"}': 0,
      'doorbell_outbox_notifications{state="parked"}': 1,
    }
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, now[name]])), expected)
    assert.ok(now.process_resident_memory_bytes! > 10_000_000)
    assert.ok(now.process_cpu_seconds_total! > 0)
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    assert.equal(now[`doorbell_build_info{version="${version}"}`], 1)

    const secrets = [made, String(body.auth_req_id), ana.id, ana.email, 'ana', 'Coffee']
    assert.deepEqual(
      secrets.filter((secret) => text.includes(secret)),
      [],
    )
  })

  for (const engine of engines) {
    test(`clients that registered themselves share one series for each result, on ${engine.name}`, async (t) => {
      const { stage, send, register } = await opened(t, open, engine)
      const before = seriesOfRequests(await numbersOf(stage))
      for (let number = 0; number < 3; number++) {
        const { body } = await register(poll)
        const credentials = basic(String(body.client_id), String(body.client_secret))
        const request = { scope: 'openid', login_hint: 'ana' }
        assert.equal((await stage.post('/backchannel/authorize', request, credentials)).status, 200)
        const refused = { ...request, binding_message: 'x'.repeat(5_000) }
        assert.equal((await stage.post('/backchannel/authorize', refused, credentials)).status, 400)
        await send('DELETE', String(body.registration_client_uri), undefined, String(body.registration_access_token))
      }
      assert.deepEqual(
        { ...before, ...seriesOfRequests(await numbersOf(stage)) },
        {
          ...before,
          'doorbell_requests_total{client="self-registered",result="accepted"}': 3,
          'doorbell_requests_total{client="self-registered",result="invalid_binding_message"}': 3,
        },
      )
    })
  }

  test('servers in one process count separately', async (t) => {
    const [one, other] = [await openStage(t), await openStage(t)]
    await one.ring('kiosk')
    const accepted = 'doorbell_requests_total{client="kiosk",result="accepted"}'
    assert.equal((await numbersOf(one))[accepted], 1)
    assert.equal((await numbersOf(other))[accepted], undefined)
  })

  test('durations of calls, by route pattern: each bucket includes the smaller ones', async (t) => {
    const stage = await openStage(t)
    for (let number = 0; number < 3; number++) await stage.ring('kiosk')
    await stage.get('/approve/one')
    await stage.get('/approve/another')
    const numbers = await numbersOf(stage)
    const series = 'method="POST",status="200"'
    const name = 'doorbell_http_request_duration_seconds'
    assert.equal(numbers[`${name}_count{route="/backchannel/authorize",${series}}`], 3)
    const buckets = Object.entries(numbers).filter(([key]) =>
      key.startsWith(`${name}_bucket{route="/backchannel/authorize"`),
    )
    assert.equal(buckets.length, 14)
    const counts = buckets.map(([, value]) => value)
    assert.deepEqual(
      counts,
      [...counts].sort((one, other) => one - other),
    )
    assert.ok(buckets.at(-1)![0].includes('le="+Inf"') && counts.at(-1) === 3)
    const pages = Object.keys(numbers).filter((key) => key.startsWith(`${name}_count{route="/approve/:id"`))
    assert.equal(pages.length, 1, 'under one label for every path')
  })

  test('the format of Prometheus: each family explained once, one sample a line', async (t) => {
    const stage = await openStage(t)
    await stage.ring('kiosk')
    const { text } = await stage.get('/metrics')
    assert.ok(text.endsWith('\n'))
    const families = new Set<string>()
    let current = ''
    for (const line of text.trimEnd().split('\n')) {
      const type = /^# TYPE (\w+) (counter|gauge|histogram)$/.exec(line)
      if (type) {
        current = type[1]!
        assert.ok(!families.has(current), current)
        families.add(current)
      } else if (!/^# HELP \w+ .+$/.test(line)) {
        const sample = /^(\w+?)(_bucket|_sum|_count)?(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? (\d+(\.\d+)?(e-\d+)?)$/.exec(
          line,
        )
        assert.equal(sample?.[1], current, line)
      }
    }
    assert.ok(families.size >= 13)
  })
})

async function numbersOf(stage: Stage): Promise<Record<string, number>> {
  return parse((await stage.get('/metrics')).text)
}

function parse(text: string): Record<string, number> {
  const samples = [...text.matchAll(/^([^#\s]\S*(?:\{.*\})?) (\S+)$/gm)]
  return Object.fromEntries(samples.map(([, name, value]) => [name!, Number(value)]))
}

const seriesOfRequests = (numbers: Record<string, number>) =>
  Object.fromEntries(Object.entries(numbers).filter(([name]) => name.startsWith('doorbell_requests_total{')))
