/** `doorbell doctor`: looks at everything that can be looked at, and says what to do. */
import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { connect, isIP } from 'node:net'
import type { Command } from 'commander'
import { tryMailServer } from '../authentication-device/channels/email.ts'
import { isMailAddress } from '../authentication-device/channels/mail.ts'
import { createPushSubscriptionStore } from '../authentication-device/channels/push-subscription-store.ts'
import { mayRing } from '../client/client.ts'
import { createClientStore, type RegisteredClient } from '../client/client-store.ts'
import { secretPlace } from '../client/configured-clients.ts'
import { CONSENT_APP } from '../client/metadata/client-metadata.ts'
import { readClientMetadata } from '../client/metadata/read-client-metadata.ts'
import { type Config, seesCertificates } from '../config/config.ts'
import { ConfigError } from '../config/load.ts'
import { weakValues } from '../config/weak-values.ts'
import { isOverdue, keyTimesOf } from '../openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore } from '../openid-provider/signing-keys/signing-key-store.ts'
import { keyAlgorithms, keyPlace, stateOf } from '../openid-provider/signing-keys/signing-keys.ts'
import { createOutboxStore } from '../outbox/outbox-store.ts'
import { newSecret } from '../platform/crypto.ts'
import { profiles } from '../platform/security-profile.ts'
import { migrationStatus } from '../platform/storage/migrate.ts'
import { createUserStore } from '../user/user-store.ts'
import { type Answer, call } from './client-role/web.ts'
import { type Desk, withDesk } from './context/desk.ts'
import {
  fileOfDatabase,
  loadSettings,
  nameOfDatabase,
  type SettingOptions,
  type Settings,
  withSettings,
} from './context/settings.ts'
import { count, examples, ink, print, printJson } from './context/terminal.ts'
import { adviceOnOtherSecret } from './other-secret.ts'

interface DoctorOptions extends SettingOptions {
  json?: boolean
}

interface Finding {
  about: string
  state: 'ok' | 'warn' | 'fail' | 'skipped'
  says: string
  /** What to do. */
  advice?: string
}

export function addDoctor(program: Command): void {
  const doctor = program
    .command('doctor')
    .description(
      'Check configuration, database, secret, keys, clock, clients and notifications. Exit code 1 if anything fails.',
    )
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(withSettings(doctor), [
    ['npx doorbell doctor --config /etc/doorbell.config.js', 'before and after going live'],
  ])
}

async function run(options: DoctorOptions): Promise<void> {
  const findings = await examine(options)
  const isWell = findings.every(({ state }) => state !== 'fail')
  if (options.json) printJson({ healthy: isWell, findings })
  else print(report(findings))
  process.exitCode = isWell ? 0 : 1
}

async function examine(options: DoctorOptions): Promise<Finding[]> {
  const settings = await readConfiguration(options)
  if (Array.isArray(settings)) return settings
  const { config } = settings
  return [
    { about: 'configuration', state: 'ok', says: describeConfiguration(settings) },
    ...examineSettings(config),
    ...(await examineDatabase(config)),
    ...(await examineServer(config)),
    ...(await examineOthers(config)),
    ...(await examineChannels(config)),
  ]
}

async function readConfiguration(options: DoctorOptions): Promise<Settings | Finding[]> {
  try {
    return await withoutKeepingSecret(options)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.complaints.map((complaint) => ({
      about: 'configuration',
      state: 'fail',
      says: complaint,
      advice: 'change the setting, or take it out for its default',
    }))
  }
}

/** Looking must not leave a secret behind, as a first start in development does. */
async function withoutKeepingSecret(options: DoctorOptions): Promise<Settings> {
  const first = await loadSettings(options, { secret: newSecret() }).catch(() => undefined)
  if (first?.config.development && isNothingThere(first)) return first
  // What could not be loaded with a secret fails here too, before one is kept, and with all complaints: about the secret too.
  return loadSettings(options)
}

/** What is allowed, and still worth a second look outside development. */
function examineSettings(config: Config): Finding[] {
  const certificate = config.tls === undefined ? [] : [examineCertificate(config.tls.cert, config.issuer)]
  return config.development ? certificate : [...certificate, ...secondLooks(config)]
}

/** Days in which a certificate can be renewed without haste. */
const inTime = 14

function examineCertificate(pem: string, issuer: string): Finding {
  const about = 'tls'
  const shown = new X509Certificate(pem)
  const days = Math.floor((Date.parse(shown.validTo) - Date.now()) / 86_400_000)
  const { hostname } = new URL(issuer)
  const address = hostname.replace(/^\[|\]$/g, '')
  if ((isIP(address) ? shown.checkIP(address) : shown.checkHost(hostname)) === undefined) {
    const advice = 'clients refuse it: get one for the host of the issuer, or let a proxy end TLS'
    return { about, state: 'warn', says: `the certificate is not for ${hostname}`, advice }
  }
  if (days < 0) return { about, state: 'fail', says: 'the certificate has expired', advice: 'renew tls.cert' }
  if (days < inTime) {
    return { about, state: 'warn', says: `the certificate expires in ${count(days, 'day')}`, advice: 'renew tls.cert' }
  }
  return { about, state: 'ok', says: `the certificate is for ${hostname}, for ${count(days, 'more day')}` }
}

function secondLooks(config: Config): Finding[] {
  const { registration, requests, limits, proxy, host, tls } = config
  const warn = (about: string, says: string, advice: string): Finding => ({ about, state: 'warn', says, advice })
  const isOpen = registration.mode === 'open'
  const { perMinute } = limits.perUser
  return [
    ...weakValues(config).map(
      ({ setting, problem, isKey, advice }): Finding => ({
        about: 'secrets',
        state: isKey ? 'fail' : 'warn',
        says: `the ${setting} ${problem}`,
        advice,
      }),
    ),
    ...(isOpen && requests.unknownUsers === 'error'
      ? [
          warn(
            'registration',
            'anybody may register a client, and a client is told who is there',
            'set requests.unknownUsers to "pretend", or registration.mode to "token"',
          ),
        ]
      : []),
    ...(isOpen && perMinute === 0
      ? [
          warn(
            'limits',
            'anybody may register a client, and nothing limits how often users are asked',
            'leave limits.perUser.perMinute out for its default',
          ),
        ]
      : []),
    ...(tls === undefined && proxy.trust.length === 0 && (host === '127.0.0.1' || host === '::1')
      ? [
          warn(
            'proxy',
            'a proxy stands before it and is not named: everybody seems to come from this machine',
            'set proxy.trust to its address, so that limits count the addresses of others',
          ),
        ]
      : []),
  ]
}

function isNothingThere({ config }: Settings): boolean {
  const file = fileOfDatabase(config.database)
  return config.database === 'sqlite::memory:' || (file !== undefined && !existsSync(file))
}

function describeConfiguration({ source, config }: Settings): string {
  return `${source}, ${config.development ? 'for development' : 'for production'}, issuer ${config.issuer}`
}

async function examineDatabase(config: Config): Promise<Finding[]> {
  const about = 'database'
  const name = nameOfDatabase(config.database)
  if (config.database === 'sqlite::memory:') {
    return [{ about, state: 'skipped', says: 'everything is in memory; only the server can look into it' }]
  }
  if (isNothingThere({ config } as Settings)) {
    return [{ about, state: 'warn', says: `${name} is not there yet`, advice: '"npx doorbell serve" makes it' }]
  }
  try {
    return await withDesk(
      config,
      async () => {},
      async (desk) => [
        { about, state: 'ok', says: `${name} answers (${desk.database.engine})` },
        ...(await examineContent(desk)),
      ],
    )
  } catch (error) {
    const advice = 'is it running, and is the setting "database" (DOORBELL_DATABASE) right?'
    return [{ about, state: 'fail', says: error instanceof Error ? error.message : String(error), advice }]
  }
}

/** With another schema than ours nothing further can be read. */
async function examineContent(desk: Desk): Promise<Finding[]> {
  const schema = await examineSchema(desk)
  if (schema.state !== 'ok') return [schema]
  return [
    schema,
    await examineSecret(desk),
    await examineKeys(desk),
    ...(await examineClients(desk)),
    await examineUsers(desk),
    ...(await examineReach(desk)),
    await examineNotifications(desk),
  ]
}

async function examineSchema({ database }: Desk): Promise<Finding> {
  const about = 'schema'
  const { applied, pending, unknown } = await migrationStatus(database)
  if (unknown.length > 0) {
    const says = `newer than this program: ${unknown.join(', ')}`
    return { about, state: 'fail', says, advice: 'run the newer Doorbell' }
  }
  if (pending.length === 0) return { about, state: 'ok', says: `the newest, ${applied.at(-1)?.name}` }
  const says = `${pending.join(', ')} ${pending.length > 1 ? 'are' : 'is'} missing`
  return { about, state: 'fail', says, advice: '"npx doorbell migrate" applies what is missing' }
}

async function examineSecret({ database, vault, config }: Desk): Promise<Finding> {
  const about = 'secret'
  const keys = await createSigningKeyStore(database).list()
  const clients = await createClientStore(database).list()
  const sealed = [
    ...keys.flatMap(({ kid, privateSealed }) =>
      privateSealed === undefined ? [] : [{ text: privateSealed, place: keyPlace(kid) }],
    ),
    ...clients.flatMap(({ client: { id, secretSealed } }) =>
      secretSealed === undefined ? [] : [{ text: secretSealed, place: secretPlace(id) }],
    ),
  ]
  if (sealed.length === 0) return { about, state: 'skipped', says: 'nothing is sealed yet that it could open' }
  const closed = sealed.filter(({ text, place }) => !opens(() => vault.open(text, place)))
  if (closed.length === 0)
    return { about, state: 'ok', says: `opens what is kept (${count(sealed.length, 'thing')} tried)` }
  const where = process.env.DOORBELL_SECRET ? 'DOORBELL_SECRET' : 'the configured secret'
  return {
    about,
    state: 'fail',
    says: `${where} does not open ${closed.length === sealed.length ? 'what' : `${closed.length} of ${sealed.length} things that`} this database keeps: it was made with another secret`,
    advice: await adviceOnOtherSecret(config),
  }
}

function opens(open: () => string): boolean {
  try {
    open()
    return true
  } catch {
    return false
  }
}

async function examineKeys({ database, clock, config }: Desk): Promise<Finding> {
  const about = 'keys'
  const keys = await createSigningKeyStore(database).list()
  const signing = keys.filter((key) => stateOf(key, clock.now()) === 'signing')
  const algorithms = [...new Set(signing.map(({ algorithm }) => algorithm))]
  if (keys.length === 0)
    return { about, state: 'warn', says: 'none yet', advice: 'the server makes them when it first starts' }
  const missing = keyAlgorithms.filter((algorithm) => !algorithms.includes(algorithm))
  if (missing.length > 0) {
    return {
      about,
      state: 'fail',
      says: `none that signs with ${missing.join(' or ')}`,
      advice: 'start the server: it makes missing keys',
    }
  }
  const overdue = signing.filter((key) => isOverdue(key, clock.now(), keyTimesOf(config)))
  if (overdue.length > 0) {
    return {
      about,
      state: 'warn',
      says: `${overdue.map(({ algorithm }) => algorithm).join(' and ')} should have been rotated by now (keys.rotateEvery)`,
      advice: 'does a server with workers run on this database? By hand: npx doorbell keys rotate',
    }
  }
  return { about, state: 'ok', says: `${count(signing.length, 'key signs', 'keys sign')} (${algorithms.join(', ')})` }
}

async function examineClients({ database, config }: Desk): Promise<Finding[]> {
  const about = 'clients'
  // Our own is not the operator's to change.
  const registered = (await createClientStore(database).list()).filter(({ client }) => client.id !== CONSENT_APP)
  const lacking = registered.flatMap((one) => complaintsAbout(one, config))
  const ringing = registered.filter(({ client }) => mayRing(client)).length
  const findings: Finding[] = lacking.map((says) => ({
    about,
    state: 'warn',
    says,
    advice: 'change it in the configuration, or remove it and add it again: "npx doorbell client"',
  }))
  if (ringing === 0) {
    const advice = 'add one to the configuration, or: npx doorbell client add --mode poll'
    return [...findings, { about, state: 'warn', says: 'none is registered that could ring', advice }]
  }
  if (lacking.length > 0) return findings
  return [{ about, state: 'ok', says: `${registered.length} registered, ${ringing} of them may ring` }]
}

/** What was good in development may not be in production: a client stays as it was registered. */
function complaintsAbout({ client }: RegisteredClient, config: Config): string[] {
  // Only its hash is kept; that there is one is all that is asked here.
  const secret = client.secretHash === undefined ? {} : { client_secret: newSecret() }
  const read = readClientMetadata(
    { ...client.metadata, ...secret },
    {
      development: config.development,
      profile: profiles[config.profile],
      seesCertificates: seesCertificates(config),
      detailTypes: Object.keys(config.authorizationDetails.types),
    },
  )
  return 'complaints' in read ? read.complaints.map((complaint) => `${client.id}: ${complaint}`) : []
}

async function examineUsers({ database, config }: Desk): Promise<Finding> {
  const about = 'users'
  if (!Array.isArray(config.users)) return { about, state: 'ok', says: "asked of the application's hooks" }
  const known = config.users.length + (await createUserStore(database).list()).length
  if (known > 0) return { about, state: 'ok', says: `${known} known` }
  const advice = 'add users or hooks to the configuration, or: npx doorbell user add'
  return { about, state: 'warn', says: 'nobody is known who could be asked', advice }
}

/** Names shown; the rest is a number. */
const named = 5

/** Who would not hear of a request. Hooks cannot be asked who there is, and tell by themselves whom they like. */
async function examineReach({ database, config }: Desk): Promise<Finding[]> {
  const about = 'reach'
  const { users, email, webPush, deviceWebhook, development } = config
  if (!Array.isArray(users) || development || deviceWebhook || !(email || webPush)) return []
  const known = [...users, ...(await createUserStore(database).list())].filter(({ disabled }) => !disabled)
  const subscribed = new Set(webPush ? await createPushSubscriptionStore(database).users() : [])
  const lost = known.filter((user) => !(email && isMailAddress(user.email)) && !subscribed.has(user.id))
  if (lost.length === 0) return [{ about, state: 'ok', says: `${count(known.length, 'user')} can be told` }]
  const ids = lost.slice(0, named).map(({ id }) => id)
  const more = lost.length > named ? ` and ${lost.length - named} more` : ''
  return [
    {
      about,
      state: 'warn',
      says: `no channel reaches ${ids.join(', ')}${more}`,
      advice: email ? 'give them a mail address' : 'they have to subscribe in their browser, or set up mail for them',
    },
  ]
}

async function examineNotifications({ database }: Desk): Promise<Finding> {
  const about = 'notifications'
  const { waiting, sending, parked } = await createOutboxStore(database).countUndelivered()
  if (parked === 0) return { about, state: 'ok', says: `${waiting + sending} to come, none parked` }
  return {
    about,
    state: 'warn',
    says: `${parked} parked: they were given up`,
    advice: 'see why: npx doorbell outbox list --state parked; then: npx doorbell outbox retry --all-parked',
  }
}

/** Milliseconds. */
const patience = 3000

async function examineServer({ issuer }: Config): Promise<Finding[]> {
  const about = 'issuer'
  const clockSkipped: Finding = { about: 'clock', state: 'skipped', says: 'there is nothing to compare it with' }
  try {
    const answer = await call(`${issuer}/.well-known/openid-configuration`, { signal: AbortSignal.timeout(patience) })
    return [judgeIssuer(answer, issuer), examineClock(answer) ?? clockSkipped]
  } catch {
    const advice = 'start the server, or see whether this machine can reach it (names, proxy, certificate)'
    return [{ about, state: 'warn', says: `nobody answers at ${issuer}`, advice }, clockSkipped]
  }
}

function judgeIssuer({ status, body }: Answer, issuer: string): Finding {
  const about = 'issuer'
  if (status !== 200) {
    const advice = 'does a proxy stand before it that leads elsewhere?'
    return { about, state: 'fail', says: `what answers at ${issuer} is no provider (${status})`, advice }
  }
  if (body.issuer === issuer) return { about, state: 'ok', says: `${issuer} answers` }
  const advice = 'clients compare it letter by letter: the setting "issuer" and the address must be the same'
  return { about, state: 'fail', says: `what answers at ${issuer} calls itself ${String(body.issuer)}`, advice }
}

/** Milliseconds that a clock may be wrong before tokens are refused somewhere. */
const tolerable = 5_000

function examineClock({ headers }: Answer): Finding | undefined {
  const about = 'clock'
  const there = Date.parse(headers.get('date') ?? '')
  if (Number.isNaN(there)) return undefined
  // The header names whole seconds only.
  const apart = Math.max(0, Math.abs(Date.now() - there) - 1000)
  if (apart <= tolerable) return { about, state: 'ok', says: "agrees with the issuer's" }
  const says = `${Math.round(apart / 1000)} s apart from the issuer's`
  return {
    about,
    state: 'fail',
    says,
    advice: 'tokens say when they begin and end: let NTP set the clock of both machines',
  }
}

/** Whom it asks: the provider where users sign in, and whoever vouches for them in hints. */
async function examineOthers({ login, hints, mutualTls, tls }: Config): Promise<Finding[]> {
  const discovery = '/.well-known/openid-configuration'
  const asked = [
    ...(login.issuer === 'self' ? [] : [['login', login.issuer.replace(/\/+$/, '') + discovery, 'login.issuer']]),
    // With own TLS it is this very server, which has been looked at.
    ...(mutualTls === undefined || tls !== undefined
      ? []
      : [['mutual tls', mutualTls.issuer + discovery, 'mutualTls.issuer']]),
    ...hints.tokenIssuers.flatMap(({ jwksUri }) =>
      jwksUri === undefined ? [] : [['hints', jwksUri, 'hints.tokenIssuers']],
    ),
  ] as [about: string, url: string, setting: string][]
  return Promise.all(asked.map(([about, url, setting]) => examineOther(about, url, setting)))
}

async function examineOther(about: string, url: string, setting: string): Promise<Finding> {
  const { host } = new URL(url)
  const advice = `does it run, and is ${setting} right?`
  try {
    const { status, body } = await call(url, { signal: AbortSignal.timeout(patience) })
    const isThere = status === 200 && ('issuer' in body || Array.isArray(body.keys))
    if (isThere) return { about, state: 'ok', says: `${host} answers` }
    return { about, state: 'fail', says: `what ${host} answers is not what it should be (${status})`, advice }
  } catch {
    return { about, state: 'fail', says: `${host} cannot be reached`, advice }
  }
}

async function examineChannels(config: Config): Promise<Finding[]> {
  const about = 'channels'
  const findings = [
    ...(config.email ? [await examineMail(config)] : []),
    ...(config.webPush ? [examineWebPush(config.webPush)] : []),
    ...(config.deviceWebhook ? [await examineWebhook(config.deviceWebhook)] : []),
    ...('notify' in config.users ? [{ about, state: 'ok', says: 'the hook "notify" is called' } as const] : []),
  ]
  if (config.development) {
    return [{ about, state: 'ok', says: 'users are told through the mailbox at /dev/mailbox' }, ...findings]
  }
  if (findings.length > 0) return findings
  const advice = 'set email, webPush or deviceWebhook; else the app of the users has to ask /backchannel/authinfo'
  return [{ about, state: 'warn', says: 'none: nobody is told that a request waits', advice }]
}

async function examineMail({ email, notifications }: Config): Promise<Finding> {
  const about = 'mail'
  const { host } = new URL(email!.smtp)
  const trouble = await tryMailServer({ smtp: email!.smtp, timeout: notifications.timeout * 1000 })
  if (trouble === undefined) return { about, state: 'ok', says: `${host} takes mail from ${email!.from}` }
  const advice = 'is email.smtp (DOORBELL_EMAIL_SMTP) right: host, port, user and password?'
  return { about, state: 'fail', says: `${host}: ${trouble}`, advice }
}

/** Push services write to whoever is named there, or refuse one who cannot exist. */
function examineWebPush({ subject }: NonNullable<Config['webPush']>): Finding {
  const about = 'web push'
  const host = subject.startsWith('mailto:') ? subject.split('@')[1]! : new URL(subject).hostname
  if (!/(^|\.)(localhost|example\.(com|org|net)|example|invalid|test)$/i.test(host)) {
    return { about, state: 'ok', says: `push services write to ${subject}` }
  }
  const advice = 'set webPush.subject to an address of yours: some push services refuse others'
  return { about, state: 'warn', says: `nobody reads what is sent to ${subject}`, advice }
}

async function examineWebhook({ url }: NonNullable<Config['deviceWebhook']>): Promise<Finding> {
  const about = 'device webhook'
  const { host, hostname, port, protocol } = new URL(url)
  try {
    await reach(hostname.replace(/^\[|\]$/g, ''), Number(port || (protocol === 'https:' ? 443 : 80)))
    return { about, state: 'ok', says: `${host} can be reached` }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
    const advice = 'does the service run, and is deviceWebhook.url right?'
    return { about, state: 'fail', says: `${host} cannot be reached (${code})`, advice }
  }
}

/** Connects and hangs up: what would be said there is for requests only. */
function reach(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: patience })
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('timeout')))
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}

const marks = { ok: '✓', warn: '!', fail: '✗', skipped: '-' }
const colours = { ok: 'green', warn: 'yellow', fail: 'red', skipped: 'dim' } as const

function report(findings: Finding[]): string {
  const width = Math.max(...findings.map(({ about }) => about.length))
  const lines = findings.flatMap(({ about, state, says, advice }) => {
    const mark = ink(colours[state], `${marks[state]} ${state.padEnd(7)}`)
    const margin = ' '.repeat(12 + width)
    return [
      `${mark} ${about.padEnd(width)}  ${says}`,
      ...(advice === undefined ? [] : [ink('dim', `${margin}→ ${advice}`)]),
    ]
  })
  return [...lines, '', verdict(findings)].join('\n')
}

function verdict(findings: Finding[]): string {
  const number = (wanted: Finding['state']) => findings.filter(({ state }) => state === wanted).length
  if (number('fail') > 0) return ink('red', `${count(number('fail'), 'thing')} must be put right.`)
  if (number('warn') > 0) return ink('yellow', `Nothing is broken; ${count(number('warn'), 'thing')} to look at.`)
  return ink('green', 'All is well.')
}
