/** `doorbell doctor`: checks the database. */
import { existsSync } from 'node:fs'
import { isMailAddress } from '../../authentication-device/channels/mail.ts'
import { createPushSubscriptionStore } from '../../authentication-device/channels/push-subscription-store.ts'
import { mayInitiate } from '../../client/client.ts'
import { type ClientStore, createClientStore, type RegisteredClient } from '../../client/client-store.ts'
import { secretAad } from '../../client/configured-clients.ts'
import { CONSENT_APP } from '../../client/metadata/client-metadata.ts'
import { unavailableSecret } from '../../client/metadata/client-secret-length.ts'
import { readClientMetadata } from '../../client/metadata/read-client-metadata.ts'
import { adviceOnSameName, createSameNameStore, saySameName } from '../../client/registration/same-name-store.ts'
import { type Config, seesCertificates } from '../../config/config.ts'
import { isOverdue, keyTimesOf } from '../../openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore } from '../../openid-provider/signing-keys/signing-key-store.ts'
import { keyAlgorithms, signingKeyAad, stateOf } from '../../openid-provider/signing-keys/signing-keys.ts'
import { createOutboxStore } from '../../outbox/outbox-store.ts'
import { profiles } from '../../platform/security-profile.ts'
import { tryWriting } from '../../platform/storage/full-disk.ts'
import { migrationStatus } from '../../platform/storage/migrate.ts'
import { type LackingPrivilege, lackingPrivilege, statementThatPermitsUse } from '../../platform/storage/privileges.ts'
import { createUserStore } from '../../user/user-store.ts'
import { adviceOnDatabase } from '../context/database-advice.ts'
import { type CommandContext, openCommandContext } from '../context/desk.ts'
import { adviceOnOtherSecret } from '../context/other-secret.ts'
import { fileOfDatabase, nameOfDatabase } from '../context/settings.ts'
import { count } from '../context/terminal.ts'
import type { Finding } from './finding.ts'
import { examineProtection } from './postgres.ts'

export async function examineDatabase(config: Config): Promise<Finding[]> {
  const about = 'database'
  const name = nameOfDatabase(config.database)
  if (config.database === 'sqlite::memory:') {
    return [{ about, state: 'skipped', says: 'everything is in memory, where only the server can read it' }]
  }
  if (isDatabaseMissing(config)) {
    return [{ about, state: 'warn', says: `${name} does not exist yet`, advice: '"npx doorbell serve" creates it' }]
  }
  try {
    return await openCommandContext(
      config,
      async () => {},
      async (context) => [
        { about, state: 'ok', says: `${name} answers (${context.database.engine})` },
        ...examineProtection(config),
        ...examineClock(context),
        ...(await examineContent(context)),
      ],
    )
  } catch (error) {
    const advice = adviceOnDatabase(error) ?? 'is it running, and is the setting "database" (DOORBELL_DATABASE) right?'
    const says = error instanceof Error ? error.message : String(error)
    return [{ about, state: 'fail', says, advice }, ...examineProtection(config)]
  }
}

/**
 * Accepted difference, in seconds, between the clocks of the database and of this machine. With a larger difference,
 * requests may expire too early or too late. Synchronised clocks differ by much less.
 */
const tolerableSeconds = 2

function examineClock({ database }: CommandContext): Finding[] {
  const seconds = Math.round(database.clockOffset / 1000)
  if (Math.abs(seconds) <= tolerableSeconds) return []
  const says = `this machine is ${Math.abs(seconds)} s ${seconds > 0 ? 'behind' : 'ahead of'} the clock of the database`
  return [{ about: 'database', state: 'warn', says, advice: 'synchronise the clocks of both machines (NTP)' }]
}

/**
 * Runs all checks of the database. The schema is checked first, because the other checks can read only tables of the
 * schema of this version.
 */
async function examineContent(context: CommandContext): Promise<Finding[]> {
  const schema = await examineSchema(context)
  if (schema.state !== 'ok') return [schema]
  return [
    schema,
    ...(await examineWriting(context)),
    await examineSecret(context),
    await examineKeys(context),
    ...(await examineClients(context)),
    await examineUsers(context),
    ...(await examineReach(context)),
    await examineNotifications(context),
  ]
}

async function examineSchema({ database }: CommandContext): Promise<Finding> {
  const about = 'schema'
  const status = await migrationStatus(database).catch((error: unknown) => {
    if ((error as { code?: unknown }).code !== insufficientPrivilege) throw error
    return undefined
  })
  if (status === undefined) {
    const advice = permitting(await statementThatPermitsUse(database))
    return { about, state: 'fail', says: 'the role may not read the tables', advice }
  }
  const { applied, pending, unknown } = status
  if (unknown.length > 0) {
    const says = `newer than this program: ${unknown.join(', ')}`
    return { about, state: 'fail', says, advice: 'use the newer Doorbell' }
  }
  if (pending.length === 0) return { about, state: 'ok', says: `up to date, ${applied.at(-1)?.name}` }
  const isEmpty = applied.length === 0
  const says = isEmpty ? 'there are no tables' : `${pending.join(', ')} ${pending.length > 1 ? 'are' : 'is'} missing`
  return { about, state: 'fail', says, advice: adviceOnMigration(await lackingPrivilege(database)) }
}

function adviceOnMigration(lacking: LackingPrivilege | undefined): string {
  const migrate = 'run "npx doorbell migrate"'
  if (lacking === undefined) return migrate
  if ('owner' in lacking) return `${migrate} with the role ${lacking.owner}, which owns the tables`
  return `the role may not create tables. ${permitting(lacking.statement)}; then ${migrate}`
}

const permitting = (statement: string) => `As an administrator of Postgres: ${statement}`

/** SQLSTATE of Postgres. */
const insufficientPrivilege = '42501'

/**
 * Writes a row and deletes it, in one transaction. Reading still works on a full disk, and while Postgres accepts no
 * changes. The transaction is committed, because SQLite uses space on the disk only when a transaction is committed.
 */
async function examineWriting({ database }: CommandContext): Promise<Finding[]> {
  const about = 'writing'
  try {
    await tryWriting(database)
    return []
  } catch (error) {
    const says = `the database accepts no changes: ${error instanceof Error ? error.message : String(error)}`
    const isDenied = (error as { code?: unknown }).code === insufficientPrivilege
    const advice = isDenied ? permitting(await statementThatPermitsUse(database)) : adviceOnDatabase(error)
    return [{ about, state: 'fail', says, ...(advice !== undefined && { advice }) }]
  }
}

async function examineSecret({ database, vault, config }: CommandContext): Promise<Finding> {
  const about = 'secret'
  const keys = await createSigningKeyStore(database).list()
  const sealed = [
    ...keys.flatMap(({ kid, privateSealed }) =>
      privateSealed === undefined ? [] : [{ text: privateSealed, place: signingKeyAad(kid) }],
    ),
    ...(await sealedSecrets(createClientStore(database))),
  ]
  if (sealed.length === 0) return { about, state: 'skipped', says: 'the database has no encrypted values yet' }
  const closed = sealed.filter(({ text, place }) => !opens(() => vault.open(text, place)))
  if (closed.length === 0)
    return { about, state: 'ok', says: `decrypts the stored values (${count(sealed.length, 'value')} checked)` }
  const where = process.env.DOORBELL_SECRET ? 'DOORBELL_SECRET' : 'the configured secret'
  return {
    about,
    state: 'fail',
    says: `${where} does not decrypt ${closed.length === sealed.length ? 'the values' : `${closed.length} of ${sealed.length} values`} in this database: they were encrypted with another secret`,
    advice: await adviceOnOtherSecret(config),
  }
}

/** Resolves to the encrypted secrets of clients. Only clients with `client_secret_jwt` have one. */
async function sealedSecrets(clients: ClientStore): Promise<{ text: string; place: string }[]> {
  const sealed = []
  for await (const page of clients.pages()) {
    for (const { client } of page) {
      if (client.secretSealed !== undefined) sealed.push({ text: client.secretSealed, place: secretAad(client.id) })
    }
  }
  return sealed
}

function opens(open: () => string): boolean {
  try {
    open()
    return true
  } catch {
    return false
  }
}

async function examineKeys({ database, clock, config }: CommandContext): Promise<Finding> {
  const about = 'keys'
  const keys = await createSigningKeyStore(database).list()
  const signing = keys.filter((key) => stateOf(key, clock.now()) === 'signing')
  const algorithms = [...new Set(signing.map(({ algorithm }) => algorithm))]
  if (keys.length === 0)
    return { about, state: 'warn', says: 'none yet', advice: 'the server creates them at its first start' }
  const missing = keyAlgorithms.filter((algorithm) => !algorithms.includes(algorithm))
  if (missing.length > 0) {
    return {
      about,
      state: 'fail',
      says: `no key signs with ${missing.join(' or ')}`,
      advice: 'start the server: it creates missing keys',
    }
  }
  const overdue = signing.filter((key) => isOverdue(key, clock.now(), keyTimesOf(config)))
  if (overdue.length > 0) {
    return {
      about,
      state: 'warn',
      says: `${overdue.map(({ algorithm }) => algorithm).join(' and ')} should have been rotated by now (keys.rotateEvery)`,
      advice: 'is a server with workers running on this database? To rotate by hand: npx doorbell keys rotate',
    }
  }
  return { about, state: 'ok', says: `${count(signing.length, 'key signs', 'keys sign')} (${algorithms.join(', ')})` }
}

async function examineClients({ database, config }: CommandContext): Promise<Finding[]> {
  const about = 'clients'
  const lacking: string[] = []
  const sameNames = createSameNameStore(database)
  const alike: Finding[] = []
  let registered = 0
  let ringing = 0
  for await (const page of createClientStore(database).pages()) {
    // The consent app, a client that belongs to Doorbell itself, is left out: the operator cannot change it.
    const ours = page.filter(({ client }) => client.id !== CONSENT_APP)
    registered += ours.length
    ringing += ours.filter(({ client }) => mayInitiate(client)).length
    lacking.push(...ours.flatMap((one) => problemsIn(one, config)))
    const operators = ours.filter(({ origin }) => origin !== 'registration').map(({ client }) => client.metadata)
    for (const each of await sameNames.find(operators)) {
      alike.push({ about, state: 'warn', says: saySameName(each), advice: adviceOnSameName(each) })
    }
  }
  const invalid = lacking.map(
    (says): Finding => ({
      about,
      state: 'warn',
      says,
      advice: 'change it in the configuration, or remove it and add it again: "npx doorbell client"',
    }),
  )
  const findings = [...invalid, ...alike]
  if (ringing === 0) {
    const advice = 'add one to the configuration, or: npx doorbell client add --mode poll'
    return [
      ...findings,
      { about, state: 'warn', says: 'no registered client may send authentication requests', advice },
    ]
  }
  if (findings.length > 0) return findings
  return [
    {
      about,
      state: 'ok',
      says: `${registered} registered, ${ringing} of them may send authentication requests`,
    },
  ]
}

/**
 * Returns the problems of a stored client: metadata that was registered in development may be invalid in production.
 */
function problemsIn({ client }: RegisteredClient, config: Config): string[] {
  // Only the hash of the client secret is stored, so a placeholder is checked instead of the secret. The length of the
  // secret was checked at registration.
  const secret = client.secretHash === undefined ? {} : { client_secret: unavailableSecret }
  const read = readClientMetadata(
    { ...client.metadata, ...secret },
    {
      development: config.development,
      profile: profiles[config.profile],
      seesCertificates: seesCertificates(config),
      detailTypes: Object.keys(config.authorizationDetails.types),
    },
  )
  return 'problems' in read ? read.problems.map((problem) => `${client.id}: ${problem}`) : []
}

async function examineUsers({ database, config }: CommandContext): Promise<Finding> {
  const about = 'users'
  if (!Array.isArray(config.users)) return { about, state: 'ok', says: "looked up by the application's hooks" }
  const known = config.users.length + (await createUserStore(database).list()).length
  if (known > 0) return { about, state: 'ok', says: `${known} known` }
  if (config.login.createUsers) return { about, state: 'ok', says: 'created when they first sign in' }
  const advice = 'add users or hooks to the configuration, or: npx doorbell user add'
  return { about, state: 'warn', says: 'there are no users', advice }
}

/** Upper limit for the ids that a finding lists. The remaining ids are only counted. */
const named = 5

/**
 * Finds users whom no channel can notify. If an application supplies the users, no user is checked: the hooks of the
 * application cannot list the users, and the application may notify them in its own way.
 */
async function examineReach({ database, config }: CommandContext): Promise<Finding[]> {
  const about = 'reach'
  const { users, email, webPush, deviceWebhook, development } = config
  if (!Array.isArray(users) || development || deviceWebhook || !(email || webPush)) return []
  const known = [...users, ...(await createUserStore(database).list())].filter(({ disabled }) => !disabled)
  const subscribed = new Set(webPush ? await createPushSubscriptionStore(database).users() : [])
  const lost = known.filter((user) => !(email && isMailAddress(user.email)) && !subscribed.has(user.id))
  if (lost.length === 0) return [{ about, state: 'ok', says: `${count(known.length, 'user')} can be notified` }]
  const ids = lost.slice(0, named).map(({ id }) => id)
  const more = lost.length > named ? ` and ${lost.length - named} more` : ''
  return [
    {
      about,
      state: 'warn',
      says: `no channel can notify ${ids.join(', ')}${more}`,
      advice: email ? 'give these users a mail address' : 'these users must subscribe in a browser, or you set up mail',
    },
  ]
}

async function examineNotifications({ database }: CommandContext): Promise<Finding> {
  const about = 'notifications'
  const { waiting, sending, parked } = await createOutboxStore(database).countUndelivered()
  if (parked === 0) return { about, state: 'ok', says: `${waiting + sending} to be sent, none parked` }
  return {
    about,
    state: 'warn',
    says: `${parked} parked, not retried any more`,
    advice: 'to see why: npx doorbell outbox list --state parked; then: npx doorbell outbox retry --all-parked',
  }
}

/** Returns whether no database is stored yet: the file does not exist, or the database is in memory. */
export function isDatabaseMissing(config: Pick<Config, 'database'>): boolean {
  const file = fileOfDatabase(config.database)
  return config.database === 'sqlite::memory:' || (file !== undefined && !existsSync(file))
}
