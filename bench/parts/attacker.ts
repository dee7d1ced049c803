/**
 * Attacks a server while honest clients use it. Runs in a separate process. Attacks are limited in number and time, and
 * call this machine only. The attacker pauses after each response, because it shares the processor with the server, and
 * the benchmark must measure only what the attack costs the server.
 */
import { randomBytes } from 'node:crypto'
import { type ClientRequest, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { openVisitor, type Visitor } from '../../test/support/visitor.ts'
import { ASSERTION_TYPE, CIBA, issuer, paths, userOf } from '../cast.ts'
import { type Answer, type Line, openLine, post } from '../line.ts'
import { playPart } from '../part.ts'

export type Attack =
  /** 40 connections call the health check again and again. */
  | { kind: 'ready' }
  /**
   * 150 callers try passwords at the same time, each time for another user name. A caller tries again half a second
   * after each response.
   */
  | { kind: 'passwords'; users: number }
  /** Each signed-in user keeps `pagesOfEach` pages open. */
  | { kind: 'pages'; users: number; pagesOfEach: number; password: string }
  /**
   * Every five seconds, 1100 calls with assertions of this client that no key verifies. A server cannot handle so many
   * calls at once.
   */
  | { kind: 'assertions'; client: string }
  /**
   * Every five seconds, 1100 unknown clients register. The `sector_identifier_uri` of each has a different host name,
   * which cannot be resolved.
   */
  | { kind: 'registrations' }
  /** Sign-ins that are begun with long parameters and abandoned. */
  | { kind: 'sign-ins'; client: string; redirectUri: string }

export interface AttackJob {
  port: number
  attack: Attack
  seconds: number
}

/** The number of responses with each status. `hung up` counts the connections that were closed without a response. */
export type Answers = Record<string, number>

/** What `prepare` has created: the browsers of the attackers. */
interface Prepared {
  visitors: Visitor[]
  /** The path to which the sign-in form of each visitor is posted. */
  signInForms: string[]
}

playPart(async () => {
  let prepared: Prepared = { visitors: [], signInForms: [] }
  return {
    port: 0,
    answers: {
      /** Prepares what the attack needs but does not include. */
      async prepare({ port, attack }: Omit<AttackJob, 'seconds'>): Promise<void> {
        prepared = { visitors: [], signInForms: [] }
        if (attack.kind === 'pages') prepared.visitors = await signedIn(port, attack)
        if (attack.kind === 'passwords') prepared = await atSignIn(port)
      },
      async run(job: AttackJob): Promise<Answers> {
        const answers: Answers = {}
        const count = (status: number | string) => {
          answers[status] = (answers[status] ?? 0) + 1
        }
        await attacks[job.attack.kind](job, count, prepared)
        return answers
      },
    },
    close: async () => {},
  }
})

type Count = (status: number | string) => void

const attacks: Record<Attack['kind'], (job: AttackJob, count: Count, prepared: Prepared) => Promise<unknown>> = {
  ready: (job, count) =>
    manyTimes(40, 50, job, async () => {
      count((await fetch(`http://127.0.0.1:${job.port}/health/ready`)).status)
    }),

  passwords: async (job, count, { visitors, signInForms }) => {
    const lines = await Promise.all(visitors.map(() => openLine(job.port)))
    await manyTimes(triers, 500, job, async (who, turn) => {
      const name = userOf((who * 97 + turn) % (job.attack as { users: number }).users)
      const form = String(new URLSearchParams({ name, password: 'wrong password' }))
      const headers = { accept: 'text/html', cookie: cookiesOf(visitors[who]!), 'x-forwarded-for': addressOf(who) }
      const answer = await ask(lines[who]!, post(signInForms[who]!, form, undefined, headers))
      if (answer instanceof Error) lines[who] = await openLine(job.port)
      count(answer instanceof Error ? 'hung up' : answer.status)
    })
    for (const line of lines) line.close()
  },

  pages: async ({ port, attack, seconds }, count, { visitors }) => {
    const { pagesOfEach } = attack as Extract<Attack, { kind: 'pages' }>
    const pages = visitors.flatMap((visitor) =>
      Array.from({ length: pagesOfEach }, () => openPage(port, visitor, count)),
    )
    await sleep(seconds * 1000)
    for (const page of pages) page.destroy()
  },

  assertions: (job, count) => {
    const { client } = job.attack as Extract<Attack, { kind: 'assertions' }>
    return elevenHundredEachFiveSeconds(job, count, () => unverifiable(client))
  },

  registrations: (job, count) => elevenHundredEachFiveSeconds(job, count, registration),

  'sign-ins': (job, count) => {
    const { client, redirectUri } = job.attack as Extract<Attack, { kind: 'sign-ins' }>
    return manyTimes(8, 40, job, async (_who, turn) => {
      const query = new URLSearchParams({
        client_id: client,
        redirect_uri: redirectUri,
        response_type: 'code',
        scope: 'openid',
        code_challenge: randomBytes(32).toString('base64url'),
        code_challenge_method: 'S256',
        state: randomBytes(turn % 2 === 0 ? 9000 : 700).toString('base64url'),
      })
      const address = `http://127.0.0.1:${job.port}/oauth/authorize?${query}`
      count((await fetch(address, { redirect: 'manual', headers: from('198.51.100.7') })).status)
    })
  },
}

/**
 * The number of callers that try passwords at the same time. A third of them call from one address. Each of the others
 * calls from a different /64 network of one IPv6 /48.
 */
const triers = 150
const addressOf = (who: number) => (who < triers / 3 ? '198.51.100.7' : `2001:db8:1:${who.toString(16)}::1`)

/**
 * Begins the sign-ins in which passwords will be tried. The sign-ins begin one after the other and from different
 * networks, so that none of them is refused.
 */
async function atSignIn(port: number): Promise<Prepared> {
  const prepared: Prepared = { visitors: [], signInForms: [] }
  for (let who = 0; who < triers; who++) {
    const visitor = openVisitor(`http://127.0.0.1:${port}`, issuer, from(`203.0.${who}.1`))
    const page = await visitor.follow(await visitor.get('/'))
    const action = /<form method="post" action="(\/sign-in\/[^"/]+)">/.exec(page.text)?.[1]
    if (action === undefined) throw new Error(`no sign-in page: ${page.status} ${page.text.slice(0, 300)}`)
    prepared.visitors.push(visitor)
    prepared.signInForms.push(action)
  }
  return prepared
}

/** Runs an action `number` times in parallel. Each is repeated after a pause, until the time is over. */
function manyTimes(
  number: number,
  pauseMs: number,
  { seconds }: AttackJob,
  once: (who: number, turn: number) => Promise<void>,
): Promise<unknown> {
  const end = performance.now() + seconds * 1000
  return Promise.all(
    Array.from({ length: number }, async (_, who) => {
      for (let turn = 0; performance.now() < end; turn++) {
        await once(who, turn).catch(() => {})
        await sleep(pauseMs)
      }
    }),
  )
}

const from = (address: string) => ({ 'x-forwarded-proto': 'https', 'x-forwarded-for': address })

async function signedIn(port: number, { users, password }: Extract<Attack, { kind: 'pages' }>): Promise<Visitor[]> {
  const visitors: Visitor[] = []
  for (let number = 0; number < users; number++) {
    const visitor = openVisitor(`http://127.0.0.1:${port}`, issuer, from(`203.0.113.${number}`))
    const seen = await visitor.signIn({ username: userOf(number), password })
    if (seen.status !== 200) throw new Error(`signing in was answered ${seen.status} ${seen.text.slice(0, 300)}`)
    visitors.push(visitor)
  }
  return visitors
}

const cookiesOf = ({ jar }: Pick<Visitor, 'jar'>) => [...jar].map(([name, value]) => `${name}=${value}`).join('; ')

const ask = (line: Line, text: string) => new Promise<Answer | Error>((resolve) => line.send(text, resolve))

/** Opens the event stream of a page of the consent app. */
function openPage(port: number, { jar }: Visitor, count: Count): ClientRequest {
  const headers = { accept: 'text/event-stream', cookie: cookiesOf({ jar }), 'x-forwarded-proto': 'https' }
  const page = get({ port, host: '127.0.0.1', path: '/events', headers }, (response) => {
    count(response.statusCode!)
    response.resume()
  })
  return page.on('error', () => {})
}

/**
 * Sends 1100 calls every five seconds, each on a new connection. All connections stay open until the attack is over.
 */
async function elevenHundredEachFiveSeconds({ port, seconds }: AttackJob, count: Count, call: () => string) {
  const all: Line[] = []
  for (let left = seconds; left > 0; left -= 5) {
    const over = sleep(Math.min(left, 5) * 1000)
    // The connections are opened within one second and not all at once, because this attack does not measure the cost
    // of simultaneous connections.
    for (let piece = 0; piece < 10; piece++) {
      const next = sleep(100)
      const lines = await Promise.all(Array.from({ length: 110 }, () => openLine(port)))
      all.push(...lines)
      for (const line of lines) {
        line.send(call(), (answer) => count(answer instanceof Error ? 'hung up' : answer.status))
      }
      await next
    }
    await over
  }
  for (const line of all) line.close()
}

function registration(): string {
  const redirect_uris = ['https://app.example/callback']
  const sector_identifier_uri = `https://${randomBytes(8).toString('hex')}.silent.example/list`
  const body = JSON.stringify({ redirect_uris, grant_types: ['authorization_code'], sector_identifier_uri })
  const headers = { 'x-forwarded-for': '198.51.100.7', 'content-type': 'application/json' }
  return post(paths.register, body, undefined, headers)
}

/** Returns an assertion whose signature has the length of ES256, but is verified by no key. */
function unverifiable(client: string): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const jti = randomBytes(16).toString('base64url')
  const claims = encode({ iss: client, sub: client, aud: issuer, jti, iat: now, exp: now + 60 })
  const assertion = `${encode({ alg: 'ES256', kid: jti })}.${claims}.${randomBytes(64).toString('base64url')}`
  const grant = `grant_type=${encodeURIComponent(CIBA)}&auth_req_id=none`
  const proof = `client_assertion_type=${encodeURIComponent(ASSERTION_TYPE)}&client_assertion=${assertion}`
  return post(paths.token, `${grant}&${proof}`)
}
