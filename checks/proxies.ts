/**
 * Checks two nodes behind nginx, HAProxy, Apache, Caddy and Envoy, one proxy after the other, with the configurations
 * in docs/proxies. The check covers sign-in, the live list of the consent app, HTTP/2, long polls, disconnecting
 * clients, client certificates, and a node that is killed. It takes half a minute for each proxy.
 *
 *     node checks/proxies.ts [nginx|haproxy|apache|caddy|envoy]
 */
import type { ChildProcess } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { fileURLToPath } from 'node:url'
import type { Certified } from '../test/support/certificates.ts'
import { freePort } from '../test/support/ports.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { openVisitor, type Visitor } from '../test/support/visitor.ts'
import { type Called, call, callerNamesSent, listenTo } from './proxy-calls.ts'
import { openHttp2 } from './proxy-http2.ts'
import {
  ana,
  type Certificates,
  CIBA,
  kiosk,
  makeCertificates,
  metricsToken,
  phones,
  settingsOf,
} from './proxy-nodes.ts'
import { begin, chosenProxies, end, inFolder, proxies, startProxy, untilReady } from './proxy-programs.ts'

const bin = fileURLToPath(new URL('../bin/doorbell.js', import.meta.url))

interface Node {
  url: string
  process: ChildProcess
}

/** A running proxy with its nodes. */
interface Scene {
  name: string
  url: string
  nodes: Node[]
  certificates: Certificates
}

const chosen = chosenProxies(process.argv.slice(2), Object.keys(proxies))
await inFolder(async (folder) => {
  const certificates = await makeCertificates(folder)
  setDefaultCACertificates([...getCACertificates(), certificates.authority.cert])
  const postgres = await startPostgres()
  try {
    for (const name of chosen) await check(name, { folder, certificates, database: postgres.url })
  } finally {
    await postgres.stop()
  }
})

interface Surroundings {
  folder: string
  certificates: Certificates
  database: string
}

async function check(name: string, { folder, certificates, database }: Surroundings): Promise<void> {
  const port = await freePort()
  const url = `https://localhost:${port}`
  const nodes: Node[] = []
  for (let number = 0; number < 2; number++) {
    const nodePort = await freePort()
    const file = join(folder, `node-${nodePort}.json`)
    const settings = settingsOf({ name, url, port: nodePort, database, certificates })
    await writeFile(file, JSON.stringify(settings))
    const process = begin(globalThis.process.execPath, [bin, 'serve', '--config', file, '--migrate'])
    nodes.push({ url: `http://127.0.0.1:${nodePort}`, process })
    await untilReady(nodes[number]!.url)
  }
  const ports = nodes.map((node) => Number(new URL(node.url).port))
  const proxy = await startProxy(name, { port, nodes: ports, tls: certificates.files }, folder)
  await untilReady(url)
  const scene = { name, url, nodes, certificates }
  console.log(name)
  const visitor = openVisitor(url)
  await signsIn(visitor)
  await showsRequestsAtOnce(scene, visitor)
  await sharesOneConnection(scene, visitor)
  await holdsPolls(scene)
  await noticesHangUps(scene)
  await forwardsCertificates(scene)
  await survivesKilledNode(scene, visitor)
  await saysThatNoNodeIsLeft(scene)
  await end(proxy)
  for (const { process } of nodes) if (process.exitCode === null && process.signalCode === null) await end(process)
}

/** Prints a result. If `isRight` is false, the check fails. */
function report(what: string, found: string, isRight: boolean): void {
  console.log(`  ${isRight ? 'ok  ' : 'FAIL'} ${what}: ${found}`)
  if (!isRight) process.exitCode = 1
}

function as(client: string, secret: string) {
  return { authorization: `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}` }
}

/** Resolves to the `auth_req_id` of a new request. */
async function ring({ url }: Scene): Promise<string> {
  const form = { scope: 'openid', login_hint: 'ana' }
  return String((await call(`${url}/backchannel/authorize`, { form, headers: as('kiosk', kiosk) })).body.auth_req_id)
}

async function approve({ url }: Scene, auth_req_id: string): Promise<void> {
  const headers = as('phones', phones)
  const about = { login_hint: 'ana', auth_req_id }
  const { body } = await call(`${url}/backchannel/authinfo`, { form: about, headers })
  const [{ request_id }] = body.requests as [{ request_id: string }]
  await call(`${url}/backchannel/complete`, { form: { login_hint: 'ana', request_id, status: 'approved' }, headers })
}

function poll({ url }: Scene, auth_req_id: string, signal?: AbortSignal): Promise<Called> {
  return call(`${url}/oauth/token`, { form: { grant_type: CIBA, auth_req_id }, headers: as('kiosk', kiosk), signal })
}

/** Resolves to the number of long polls that are open at each node; undefined for a node that does not answer. */
function heldPolls({ nodes }: Scene): Promise<(number | undefined)[]> {
  return Promise.all(
    nodes.map(async ({ url }) => {
      const text = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${metricsToken}` } }).then(
        (answer) => answer.text(),
        () => '',
      )
      const [, count] = /^doorbell_polls_held (\d+)$/m.exec(text) ?? []
      return count === undefined ? undefined : Number(count)
    }),
  )
}

/** Resolves to whether the condition becomes true within this many milliseconds. */
async function within(milliseconds: number, holds: () => boolean | Promise<boolean>): Promise<boolean> {
  const until = performance.now() + milliseconds
  while (!(await holds())) {
    if (performance.now() > until) return false
    await pause(20)
  }
  return true
}

async function holding(scene: Scene, count: number): Promise<boolean> {
  return (await heldPolls(scene)).reduce<number>((sum, held) => sum + (held ?? 0), 0) === count
}

async function signsIn(visitor: Visitor): Promise<void> {
  const { status, text } = await visitor.signIn(ana)
  report('sign-in', `${status}`, status === 200 && !text.includes('name="password"'))
  const cookies = (await visitor.get('/sessions')).status
  report('list of sessions', `${cookies}`, cookies === 200)
}

async function showsRequestsAtOnce(scene: Scene, visitor: Visitor): Promise<void> {
  const live = listenTo(`${scene.url}/events`, visitor.jar)
  const opened = await within(5_000, () => live.isOpen())
  const asked = performance.now()
  await ring(scene)
  const came = await within(5_000, () => live.events() > 0)
  report('live list', `a request after ${Math.round(performance.now() - asked)} ms`, opened && came)
  await pause(1_000)
  report('live list', `the stream stays open`, live.isOpen())
  live.close()
}

/**
 * A browser with many tabs uses one HTTP/2 connection. While eight event streams and a poll are held, a page must be
 * answered. When the browser closes a stream, it only resets the stream; the proxy must tell the node as before.
 */
async function sharesOneConnection(scene: Scene, visitor: Visitor): Promise<void> {
  const browser = await openHttp2(scene.url)
  const expected = proxies[scene.name]!.offersHttp2 ? 'h2' : 'http/1.1'
  report('HTTP/2', `negotiated: ${browser.protocol}`, browser.protocol === expected)
  if (browser.protocol !== 'h2') return browser.close()
  const tabs = Array.from({ length: 8 }, () => browser.listenTo('/events', visitor.jar))
  const opened = await within(5_000, () => tabs.every((tab) => tab.isOpen()))
  const id = await ring(scene)
  const came = await within(5_000, () => tabs.every((tab) => tab.events() > 0))
  report(
    'HTTP/2',
    `eight event streams: ${tabs.filter((tab) => tab.events() > 0).length} get the event`,
    opened && came,
  )
  const held = browser.post('/oauth/token', { grant_type: CIBA, auth_req_id: id }, as('kiosk', kiosk))
  const isHeld = await within(5_000, () => holding(scene, 1))
  const page = await browser.get('/', visitor.jar)
  report('HTTP/2', `a page beside them and a held poll: ${page}`, isHeld && page === 200)
  held.reset()
  const isTold = await within(2_000, () => holding(scene, 0))
  report(
    'HTTP/2',
    `a reset stream is ${isTold ? '' : 'not '}passed on`,
    isTold === proxies[scene.name]!.passesHangUpsOn,
  )
  for (const tab of tabs) tab.close()
  browser.close()
}

async function holdsPolls(scene: Scene): Promise<void> {
  const id = await ring(scene)
  const answer = poll(scene, id)
  const held = await within(5_000, () => holding(scene, 1))
  await pause(2_000)
  const approved = performance.now()
  await approve(scene, id)
  const { status } = await answer
  const took = Math.round(performance.now() - approved)
  report('long poll', `${status}, ${took} ms after the approval began`, held && status === 200)
  const whole = await ring(scene)
  const began = performance.now()
  const { body } = await poll(scene, whole)
  const seconds = Math.round((performance.now() - began) / 1000)
  report('long poll', `${body.error} after ${seconds} s`, body.error === 'authorization_pending' && seconds >= 19)
}

/**
 * A client disconnects during a long poll. Checks whether the proxy closes its connection to the node, as expected. In
 * both cases, the client must get the tokens with its next poll.
 */
async function noticesHangUps(scene: Scene): Promise<void> {
  const id = await ring(scene)
  const leaving = new AbortController()
  const answer = poll(scene, id, leaving.signal).catch(() => undefined)
  await within(5_000, () => holding(scene, 1))
  leaving.abort()
  await answer
  const isTold = await within(2_000, () => holding(scene, 0))
  const expected = proxies[scene.name]!.passesHangUpsOn
  report('disconnect', isTold ? 'passed on' : 'not passed on', isTold === expected)
  await approve(scene, id)
  await within(5_000, () => holding(scene, 0))
  await pause(200)
  const { status } = await poll(scene, id)
  report('disconnect', `the next poll gets ${status === 200 ? 'the tokens' : status}`, status === 200)
}

async function forwardsCertificates(scene: Scene): Promise<void> {
  const { till, self, files } = scene.certificates
  const attempt = async (client_id: string, certified?: Certified, headers = {}) => {
    const form = { client_id, scope: 'openid', login_hint: 'ana' }
    return (await call(`${scene.url}/backchannel/authorize`, { form, certified, headers })).status
  }
  const statuses = [await attempt('till', till), await attempt('self', self), await attempt('till')]
  report(
    'client certificate',
    `signed ${statuses[0]}, self-signed ${statuses[1]}, none ${statuses[2]}`,
    `${statuses}` === '200,200,401',
  )
  const forms = [till.x5c, encodeURIComponent(till.cert), `:${till.x5c}:`]
  const forged = [...forms, `Hash=1;Cert="${encodeURIComponent(till.cert)}"`]
  const headers = ['X-Client-Cert', 'x-client-cert', 'X-Client-Cert-Chain', 'x-forwarded-client-cert']
  const believed: string[] = []
  for (const header of headers) {
    for (const value of forged) {
      if ((await attempt('till', undefined, { [header]: value })) !== 401) believed.push(header)
    }
  }
  report(
    'client certificate',
    `headers of callers that are believed: ${believed.join(', ') || 'none'}`,
    believed.length === 0,
  )
  const names = await callerNamesSent(scene.url, files.clientCa)
  report('client certificate', `names of authorities: ${names}`, names === 'none')
}

/**
 * Kills the node at which a long poll is open. Later calls must succeed, the poll can be repeated, and pages must
 * reconnect.
 */
async function survivesKilledNode(scene: Scene, visitor: Visitor): Promise<void> {
  const id = await ring(scene)
  const cut = poll(scene, id).then(
    ({ status }) => String(status),
    () => 'connection closed',
  )
  await within(5_000, () => holding(scene, 1))
  const holder = (await heldPolls(scene)).indexOf(1)
  await end(scene.nodes[holder]!.process, 'SIGKILL')
  const statuses = new Map<number | string, number>()
  for (let number = 0; number < 40; number++) {
    const form = { scope: 'openid', login_hint: 'ana' }
    const { status } = await call(`${scene.url}/backchannel/authorize`, { form, headers: as('kiosk', kiosk) }).catch(
      () => ({ status: 0 }),
    )
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    await pause(50)
  }
  const counted = [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ')
  report('one node killed', `40 calls: ${counted}; the held poll: ${await cut}`, counted === '40 × 200')
  const again = poll(scene, id)
  await within(5_000, () => holding(scene, 1))
  await approve(scene, id)
  const { status } = await again
  report('one node killed', `the repeated poll: ${status}`, status === 200)
  const page = await visitor.get('/')
  const live = listenTo(`${scene.url}/events`, visitor.jar)
  const opened = await within(5_000, () => live.isOpen())
  await ring(scene)
  const came = await within(5_000, () => live.events() > 0)
  report('one node killed', `the consent app: ${page.status}, live list ${came ? 'works' : 'is dead'}`, opened && came)
  live.close()
}

async function saysThatNoNodeIsLeft({ url, nodes }: Scene): Promise<void> {
  for (const { process } of nodes)
    if (process.exitCode === null && process.signalCode === null) await end(process, 'SIGKILL')
  await pause(2_500)
  const form = { scope: 'openid', login_hint: 'ana' }
  const { status, retryAfter, body } = await call(`${url}/backchannel/authorize`, { form, headers: as('kiosk', kiosk) })
  const isRight = status === 503 && retryAfter !== undefined && body.error === 'temporarily_unavailable'
  report('no node left', `${status} ${body.error}, Retry-After: ${retryAfter}`, isRight)
}
