/**
 * Opens a new Doorbell server for a test, with the test clients and users:
 *
 * Ana and Ben are users. Kiosk is a client with poll, Northbank with ping, Till with push. The phone service is the
 * back end of the app of Ana's bank. It decides for users that it has authenticated. The phone app signs users in with
 * Doorbell.
 */
import type { TestContext } from 'node:test'
import type { ConfigInput } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell, type Doorbell, type DoorbellOptions } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { createLog } from '../../src/platform/log.ts'
import type { Database } from '../../src/platform/storage/database.ts'
import type { openDatabase } from '../../src/platform/storage/open.ts'
import { createScryptThreads } from '../../src/user/password/scrypt-threads.ts'
import { createStageClock, machineClock, type StageClock } from './clock.ts'
import { type Engine, engines } from './engines.ts'
import { freePort } from './ports.ts'
import { openWithKeys } from './signing-keys.ts'
import { closeAfter } from './teardown.ts'

export const CIBA = 'urn:openid:params:grant-type:ciba'

/** The secrets of the clients. They are random, so that a search for a secret finds no other text. */
export const secrets = {
  kiosk: newSecret(),
  northbank: newSecret(),
  till: newSecret(),
  phoneService: newSecret(),
}

export const ana = {
  id: 'user-ana',
  username: 'ana',
  email: 'ana@example.com',
  phone_number: '+34600000001',
  name: 'Ana',
  password: newSecret(12),
}
export const ben = { id: 'user-ben', username: 'ben', email: 'ben@example.com', name: 'Ben', password: newSecret(12) }

/** The parameters of a fast password hash for tests. The hash with the usual parameters takes half a second. */
export const cheapCost = { N: 2 ** 10, r: 8, p: 1 }

/** All servers of a test file share these threads, because starting a thread takes longer than a fast hash. */
const { scrypt } = createScryptThreads()

export interface StageOptions {
  engine?: Engine
  /** Settings that are merged into the test configuration, section by section. */
  config?: ConfigInput
  /** The notification endpoint of Northbank. */
  northbank?: string
  till?: string
  parts?: DoorbellOptions
  /** The port of the server. Default: a free port. */
  port?: number
  /** False: the test clients are omitted, and only the clients of `config` are registered. */
  cast?: false
  /** Whether `config` is used as it is, without the clients, users and limits of the test configuration. */
  isComplete?: true
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** The JSON of the response; empty if it has none. */
  body: Record<string, unknown>
}

export interface Stage {
  doorbell: Doorbell
  /** The issuer: http://localhost:<port>. */
  url: string
  clock: StageClock
  /** Every line of the log so far, across restarts. */
  logLines: string[]
  /** The URL of the database. */
  database: string
  /** The database as the server has opened it. */
  serverDatabase: Database
  /** POSTs a form. */
  post(path: string, form: Record<string, string> | URLSearchParams, authorization?: string): Promise<Answer>
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  /** Sends an authentication request as a test client, by default about Ana. An empty value leaves a parameter out. */
  ring(as: RingingClient, parameters?: Record<string, string>): Promise<Answer>
  /** Polls as a test client. */
  poll(as: RingingClient, authReqId: unknown): Promise<Answer>
  /** Decides a request as the phone service, by default for Ana. */
  decide(requestId: unknown, status: 'approved' | 'denied', more?: Record<string, string>): Promise<Answer>
  /** Lists the open requests about a user as the phone service. The newest request is the first. */
  waiting(loginHint?: string): Promise<Record<string, unknown>[]>
  /** Resolves to the internal id of the newest request about a user. */
  newestRequest(loginHint?: string): Promise<string>
  /** Closes Doorbell and opens it again on the same database, optionally with another configuration. */
  restart(config?: ConfigInput): Promise<void>
  close(): Promise<void>
}

export type RingingClient = 'kiosk' | 'northbank' | 'till'

/** Returns `Authorization: Basic …` for a client. */
export function basic(clientId: string, secret: string): string {
  return `Basic ${Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(secret)}`).toString('base64')}`
}

export const credentials = {
  kiosk: basic('kiosk', secrets.kiosk),
  northbank: basic('northbank', secrets.northbank),
  till: basic('till', secrets.till),
  phoneService: basic('phone-service', secrets.phoneService),
}

/** Returns a client_notification_token: different for each request, as CIBA §7.1 requires. */
export const newNotificationToken = () => newSecret(24)

export async function openStage(t: TestContext, options: StageOptions = {}): Promise<Stage> {
  const engine = options.engine ?? engines.find(({ name }) => name === 'sqlite')!
  const { url: database, drop } = await engine.fresh({ mayHaveTables: true })
  const port = options.port ?? (await freePort())
  const clock = createStageClock()
  const logLines: string[] = []
  const config = await loadConfig({ env: {}, overrides: castConfig(port, database, options) })
  const open = comparingClocks(options.parts?.openDatabase ?? openWithKeys({ secret: config.secret, clock }))
  let serverDatabase: Database | undefined
  const parts: DoorbellOptions = {
    clock,
    migrate: true,
    log: createLog('debug', { write: (line) => void logLines.push(line) }),
    passwords: { cost: cheapCost, scrypt },
    ...options.parts,
    async openDatabase(...about) {
      serverDatabase = await open(...about)
      return serverDatabase
    },
  }

  const stage: Stage = {
    doorbell: await createDoorbell(config, parts),
    url: `http://localhost:${port}`,
    clock,
    logLines,
    database,
    get serverDatabase() {
      return serverDatabase!
    },
    post: (path, form, authorization) =>
      send(`${stage.url}${path}`, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          ...(authorization !== undefined && { authorization }),
        },
        body: String(new URLSearchParams(form)),
      }),
    get: (path, headers = {}) => send(`${stage.url}${path}`, { headers }),
    ring(as, parameters = {}) {
      // The clock advances before each request, so that each request has a different time and the newest is known.
      clock.advance(1)
      return stage.post('/backchannel/authorize', ringing(as, parameters), credentials[as])
    },
    poll: (as, authReqId) =>
      stage.post('/oauth/token', { grant_type: CIBA, auth_req_id: String(authReqId) }, credentials[as]),
    decide: (requestId, status, more = {}) =>
      stage.post(
        '/backchannel/complete',
        { login_hint: 'ana', request_id: String(requestId), status, ...more },
        credentials.phoneService,
      ),
    async waiting(loginHint = 'ana') {
      const { body } = await stage.post('/backchannel/authinfo', { login_hint: loginHint }, credentials.phoneService)
      return body.requests as Record<string, unknown>[]
    },
    async newestRequest(loginHint = 'ana') {
      const [newest] = await stage.waiting(loginHint)
      if (newest === undefined) throw new Error(`no request is waiting for ${loginHint}`)
      return String(newest.request_id)
    },
    async restart(other) {
      await stage.doorbell.close()
      const changed = { ...options, config: { ...options.config, ...other } }
      const next = other && (await loadConfig({ env: {}, overrides: castConfig(port, database, changed) }))
      stage.doorbell = await createDoorbell(next ?? config, parts)
      await stage.doorbell.listen()
    },
    async close() {
      await stage.doorbell.close()
      await drop()
    },
  }
  closeAfter(t, stage.close)
  await stage.doorbell.listen()
  return stage
}

/**
 * Returns an `openDatabase` that compares the clock of the database with the wall clock of this machine, and not with
 * the steady time, which may differ from the wall clock.
 */
export function comparingClocks(open: typeof openDatabase): typeof openDatabase {
  return (url, surroundings) => open(url, { machine: machineClock, ...surroundings })
}

function ringing(as: RingingClient, parameters: Record<string, string>): Record<string, string> {
  const usual = {
    scope: 'openid',
    login_hint: 'ana@example.com',
    binding_message: 'Coffee 4.20',
    ...(as !== 'kiosk' && { client_notification_token: newNotificationToken() }),
  }
  return Object.fromEntries(Object.entries({ ...usual, ...parameters }).filter(([, value]) => value !== ''))
}

async function send(url: string, request: RequestInit): Promise<Answer> {
  const response = await fetch(url, { ...request, redirect: 'manual' })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, body: parse(text) }
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

export function castConfig(port: number, database: string, options: StageOptions = {}): ConfigInput {
  const { config = {}, isComplete = false } = options
  const secret = config.secret ?? Buffer.alloc(32, 7).toString('base64url')
  if (isComplete) return { ...config, port, database, secret }
  return {
    ...config,
    issuer: config.issuer ?? `http://localhost:${port}`,
    port,
    database,
    development: config.development ?? true,
    secret,
    requests: { maxOpenPerUser: 1000, ...config.requests },
    notifications: { timeout: 2, ...config.notifications },
    clients: [...(options.cast === false ? [] : castClients(options)), ...(config.clients ?? [])],
    users: config.users ?? [ana, ben],
  }
}

function castClients({ northbank, till, config }: StageOptions): NonNullable<ConfigInput['clients']> {
  // No server listens on this port. The URL is for tests without notifications.
  const nowhere = 'http://localhost:9/notify'
  const grant_types = [CIBA, 'refresh_token']
  return [
    {
      client_id: 'kiosk',
      client_secret: secrets.kiosk,
      client_name: 'Kiosk',
      grant_types,
      backchannel_token_delivery_mode: 'poll',
    },
    {
      client_id: 'northbank',
      client_secret: secrets.northbank,
      client_name: 'Northbank',
      grant_types,
      backchannel_token_delivery_mode: 'ping',
      backchannel_client_notification_endpoint: northbank ?? nowhere,
    },
    {
      client_id: 'till',
      client_secret: secrets.till,
      client_name: 'Till',
      grant_types: ['refresh_token'],
      backchannel_token_delivery_mode: 'push',
      backchannel_client_notification_endpoint: till ?? nowhere,
    },
    { client_id: 'phone-service', client_secret: secrets.phoneService, backchannel_device_service: true },
    {
      client_id: 'phone-app',
      client_name: 'Phone app',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code'],
      redirect_uris: ['http://127.0.0.1/callback'],
      scope: [
        ...(config?.tokens?.scopes ?? ['openid', 'profile', 'email', 'phone', 'offline_access']),
        'ciba:decide',
      ].join(' '),
    },
  ]
}
