/**
 * `doorbell client`: adds, lists, shows and removes registered clients. A generated secret is shown only once, when it
 * is created.
 */
import { readFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { type Client, isDeviceService } from '../client/client.ts'
import { type ClientStore, createClientStore, type RegisteredClient } from '../client/client-store.ts'
import { toClient } from '../client/configured-clients.ts'
import {
  type ClientMetadata,
  CONSENT_APP,
  needsSecret as methodNeedsSecret,
} from '../client/metadata/client-metadata.ts'
import { newClientSecret } from '../client/metadata/client-secret-length.ts'
import { readClientMetadata } from '../client/metadata/read-client-metadata.ts'
import { unusedMembers } from '../client/metadata/unused-members.ts'
import { adviceOnSameName, createSameNameStore, saySameName } from '../client/registration/same-name-store.ts'
import { type Config, seesCertificates } from '../config/config.ts'
import { weaknessOfClientSecret } from '../config/weak-values.ts'
import { endClient } from '../endings/end-client.ts'
import { newSecret } from '../platform/crypto.ts'
import { profiles } from '../platform/security-profile.ts'
import { didYouMean, isPlain, nearest } from '../platform/validation.ts'
import { withDatabase, withNewDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { colour, examples, listing, note, print, printJson, table } from './context/terminal.ts'
import { refuseWeak } from './context/weak-input.ts'
import { addInvite } from './invite.ts'

interface ClientOptions extends SettingOptions {
  json?: boolean
}

interface AddOptions extends ClientOptions {
  file?: string
  id?: string
  name?: string
  mode?: string
  endpoint?: string
  authMethod?: string
  deviceService?: boolean
  redirectUri?: string[]
  scope?: string
  grantType?: string[]
}

export function addClient(program: Command): void {
  const client = program
    .command('client')
    .description('Registered clients: add, list, show, remove, and invite others to register themselves.')
  examples(client, [['npx doorbell client list', 'the clients, and how each is notified of the outcome']])

  const add = client
    .command('add')
    .description(
      'Register a client. Options override the file. A secret is generated and shown once, unless one is given.',
    )
    .option('--file <file>', 'its metadata as JSON (RFC 7591 and CIBA Core §4)')
    .option('--id <id>', 'its client_id; generated unless given')
    .option('--name <name>', 'the name that users see')
    .addOption(new Option('--mode <mode>', 'how it gets its tokens').choices(['poll', 'ping', 'push']))
    .option('--endpoint <url>', 'where pings and pushes go')
    .option('--auth-method <method>', 'how it authenticates: client_secret_basic (default), client_secret_post, …')
    .option('--device-service', 'it decides for users that it has authenticated itself')
    .option('--redirect-uri <uri...>', 'where users return after signing in')
    .option('--scope <scopes>', 'the scopes it may request, separated by spaces; all unless given')
    .option('--grant-type <grant...>', 'the grants it may use; those that its mode needs unless given')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runAdd(command.optsWithGlobals()))
  examples(withSettings(add), [
    ['npx doorbell client add --id till --name "Corner Café" --mode poll', 'a client that polls'],
    [
      'npx doorbell client add --id bank --mode push --endpoint https://bank.example/ciba',
      'a client with push delivery',
    ],
    ['npx doorbell client add --id phones --device-service', 'the back end of an app in which users decide'],
  ])

  const list = client
    .command('list')
    .description('List the registered clients.')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runList(command.optsWithGlobals()))
  examples(withSettings(list), [['npx doorbell client list --json', 'for a script']])

  const show = client
    .command('show <id>')
    .description('Show the metadata of a client, without its secret.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runShow(id, command.optsWithGlobals()))
  examples(withSettings(show), [['npx doorbell client show demo-till', 'one of the demo cast']])

  const remove = client
    .command('remove <id>')
    .description('Remove a client that was added by command or registered itself, with its tokens and open requests.')
    .option('--json', 'answer in JSON')
    .action((id: string, _options, command: Command) => runRemove(id, command.optsWithGlobals()))
  examples(withSettings(remove), [['npx doorbell client remove till', 'it can send no more requests']])

  addInvite(client)
}

async function runAdd(options: AddOptions): Promise<void> {
  const input = await gather(options)
  const madeSecret = needsSecret(input) ? newClientSecret(input.token_endpoint_auth_method) : undefined
  const { alike, ...added } = await withNewDatabase(options, async ({ config, database, vault, clock, audit }) => {
    const metadata = check({ ...input, ...(madeSecret !== undefined && { client_secret: madeSecret }) }, config)
    refuseWeakSecret(metadata, config)
    const isConfigured = config.clients.some(({ client_id }) => client_id === metadata.client_id)
    if (metadata.client_id === CONSENT_APP)
      throw new Failure(`${CONSENT_APP} is Doorbell's own client. Use another --id.`)
    if (isConfigured)
      throw new Failure(`The configuration has a client ${metadata.client_id} already. Use another --id.`)
    const client = toClient(metadata, vault)
    if (!(await createClientStore(database).add(client, clock.now()))) {
      throw new Failure(
        `There is a client ${client.id} already. Use another --id, or remove it first: "npx doorbell client remove ${client.id}".`,
      )
    }
    audit({ event: 'client.added', client: client.id, by: 'command' })
    const { id_token_signed_response_alg = config.tokens.idTokenAlg } = metadata
    // `id_token_signed_response_alg` is shown even if it is the default, because many client libraries expect RS256 if
    // no algorithm is configured.
    const alike = await createSameNameStore(database).find([metadata])
    return { ...client, metadata: { ...client.metadata, id_token_signed_response_alg }, alike }
  })
  for (const { name, problem } of unusedMembers(input)) note(`${name} ${problem}`)
  for (const each of alike) note(`${saySameName(each)}; ${adviceOnSameName(each)}`)
  if (options.json)
    return printJson({ ...added.metadata, ...(madeSecret !== undefined && { client_secret: madeSecret }) })
  print(`Added ${colour('bold', added.id)}.`)
  print()
  print(listing([['client_id', added.id], ['client_secret', madeSecret], ...entriesOf(added.metadata)], '  '))
  if (madeSecret === undefined) return
  print()
  print('The secret is shown only once and stored as a hash: give it to the client now.')
}

async function gather(options: AddOptions): Promise<Record<string, unknown>> {
  const fromFile = options.file === undefined ? {} : await readMetadata(options.file)
  const fromOptions = {
    client_id: options.id,
    client_name: options.name,
    backchannel_token_delivery_mode: options.mode,
    backchannel_client_notification_endpoint: options.endpoint,
    token_endpoint_auth_method: options.authMethod,
    backchannel_device_service: options.deviceService,
    redirect_uris: options.redirectUri,
    scope: options.scope,
    grant_types: options.grantType,
  }
  const given = Object.entries(fromOptions).filter(([, value]) => value !== undefined)
  // If a generated id began with a dash, commands would read the id as an option.
  const madeUp = newSecret(12).replace(/^-/, '_')
  const metadata = { client_id: madeUp, ...fromFile, ...Object.fromEntries(given) }
  const isNotified = options.mode === 'ping' || options.mode === 'push'
  if (isNotified && !('backchannel_client_notification_endpoint' in metadata)) {
    throw new Failure(
      `--mode ${options.mode} needs --endpoint <url>: the address to which the server sends each ${options.mode}.`,
    )
  }
  return metadata
}

async function readMetadata(file: string): Promise<Record<string, unknown>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Failure(`${file} cannot be read: ${error.code === 'ENOENT' ? 'there is no such file' : error.message}.`)
  })
  // The message of the JSON parser is omitted: it would quote the file, which may contain a secret.
  const metadata = parseJson(text)
  if (!isPlain(metadata)) throw new Failure(`${file} must contain one JSON object of client metadata.`)
  return metadata
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function needsSecret({ client_secret, token_endpoint_auth_method: method }: Record<string, unknown>): boolean {
  if (client_secret !== undefined && client_secret !== null) return false
  return methodNeedsSecret(method ?? 'client_secret_basic')
}

function check(input: Record<string, unknown>, config: Config): ClientMetadata {
  const read = readClientMetadata(input, {
    development: config.development,
    profile: profiles[config.profile],
    seesCertificates: seesCertificates(config),
    detailTypes: Object.keys(config.authorizationDetails.types),
  })
  if ('problems' in read) {
    throw new Failure(`This client cannot be added:\n${read.problems.map((problem) => `  - ${problem}`).join('\n')}`)
  }
  return read.client
}

function refuseWeakSecret({ client_id, client_secret }: ClientMetadata, config: Config): void {
  const weakness = client_secret === undefined ? undefined : weaknessOfClientSecret(client_secret)
  refuseWeak(
    `the client_secret of ${client_id}`,
    weakness,
    config,
    'leave client_secret out of the file: then the command makes a random one',
  )
}

/**
 * Returns all metadata that is set, except `client_id`. Each pair contains the registered name and the value as text.
 */
function entriesOf(metadata: ClientMetadata): [string, string][] {
  return Object.entries(metadata).flatMap(([name, value]): [string, string][] => {
    if (name === 'client_id' || value === undefined || (Array.isArray(value) && value.length === 0)) return []
    if (Array.isArray(value)) return [[name, value.join(' ')]]
    return [[name, typeof value === 'object' ? JSON.stringify(value) : String(value)]]
  })
}

async function runList(options: ClientOptions): Promise<void> {
  const { registered, configured } = await withDatabase(options, async ({ database, config }) => ({
    registered: (await allClients(createClientStore(database))).filter(({ client }) => client.id !== CONSENT_APP),
    configured: config.clients.map(({ client_id }) => client_id),
  }))
  if (options.json) printJson({ clients: registered.map(forScripts) })
  else if (registered.length > 0)
    print(table(['CLIENT', 'NAME', 'DOES', 'AUTHENTICATES BY', 'FROM'], registered.map(rowOf)))
  else print('No client is registered. "npx doorbell client add --help" says how.')

  const absent = configured.filter((id) => !registered.some(({ client }) => client.id === id))
  if (absent.length > 0)
    note(
      `Clients of the configuration that are not registered yet (the server does it when it starts): ${absent.join(', ')}`,
    )
}

function forScripts({ client, origin }: RegisteredClient) {
  return { ...client.metadata, origin, has_secret: client.secretHash !== undefined }
}

const origins = { config: 'configuration', command: 'command', registration: 'the client itself' }

function rowOf({ client, origin }: RegisteredClient): string[] {
  const { client_name: name, token_endpoint_auth_method: method } = client.metadata
  return [client.id, name ?? '', doing(client), method, origins[origin]]
}

function doing(client: Client): string {
  if (client.deliveryMode === 'poll') return 'polls'
  if (client.deliveryMode !== undefined) return `${client.deliveryMode} to ${client.notificationEndpoint}`
  if (isDeviceService(client)) return 'decides for users'
  return client.metadata.grant_types.includes('authorization_code') ? 'signs users in' : 'does not use CIBA'
}

async function runShow(id: string, options: ClientOptions): Promise<void> {
  const registered = await withDatabase(options, ({ database }) => find(id, createClientStore(database)))
  if (options.json) return printJson(forScripts(registered))
  const { client, origin } = registered
  print(
    listing([
      ['client_id', client.id],
      ...entriesOf(client.metadata),
      ['secret', secretOf(client)],
      ['registered by', id === CONSENT_APP ? 'Doorbell itself, for the consent app' : origins[origin]],
    ]),
  )
}

function secretOf(client: Client): string {
  if (client.secretSealed !== undefined) return 'stored encrypted, because client_secret_jwt needs it'
  return client.secretHash === undefined ? 'none' : 'stored as a hash'
}

async function allClients(clients: ClientStore): Promise<RegisteredClient[]> {
  const all = []
  for await (const page of clients.pages()) all.push(...page)
  return all
}

async function find(id: string, clients: ClientStore): Promise<RegisteredClient> {
  const found = await clients.findRegistered(id)
  if (found !== undefined) return found
  const ids = (await allClients(clients)).map(({ client }) => client.id)
  throw new Failure(
    `There is no client ${id}${didYouMean(nearest(id, ids)) || '; "npx doorbell client list" lists them.'}`,
  )
}

async function runRemove(id: string, options: ClientOptions): Promise<void> {
  await withDatabase(options, async ({ database, clock, audit }) => {
    const clients = createClientStore(database)
    const { origin } = await find(id, clients)
    if (id === CONSENT_APP) {
      throw new Failure(`${id} is Doorbell's own client: users sign in to the consent app through it.`)
    }
    if (origin === 'config') {
      throw new Failure(
        `${id} comes from the configuration and would be registered again at the next start. Remove it there and restart the server.`,
      )
    }
    await clients.remove(id, endClient(id, clock.now()))
    audit({ event: 'client.removed', client: id, by: 'command' })
  })
  if (options.json) printJson({ removed: id })
  else print(`Removed ${id}. It can no longer send requests or collect tokens.`)
}
