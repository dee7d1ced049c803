/** `doorbell request`: as a client, sends an authentication request and waits for the tokens. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { demoUsers } from '../config/demo.ts'
import { newSecret } from '../platform/crypto.ts'
import { type CallBackEndpoint, openCallBack } from './client-role/callback.ts'
import { type Cast, findCast } from './client-role/cast.ts'
import { type Connection, connect } from './client-role/connection.ts'
import { poll } from './client-role/poll.ts'
import { discover, type PlayedClient, type ProviderMetadata, Refused } from './client-role/provider.ts'
import { type Outcome, requestAuthentication, type StartedRequest, type Tokens } from './client-role/ring.ts'
import { checkPushed, type IdToken, readIdToken } from './client-role/verify.ts'
import { Failure } from './context/failure.ts'
import { readSecret } from './context/secret-input.ts'
import type { SettingOptions } from './context/settings.ts'
import { colour, examples, iso, listing, print, printJson } from './context/terminal.ts'

interface RequestOptions extends SettingOptions {
  client: string
  clientSecret?: string
  clientSecretStdin?: boolean
  authMethod?: string
  issuer?: string
  mode?: PlayedClient['mode']
  loginHint?: string
  idTokenHint?: string
  loginHintToken?: string
  bindingMessage?: string
  scope: string
  authorizationDetails?: string
  resource?: string
  acrValues?: string
  requestedExpiry?: string
  callbackPort?: number
  json?: boolean
}

export function addRequest(program: Command): void {
  const request = program
    .command('request')
    .description(
      'Act as a client: send an authentication request, wait for the user, show the tokens. Exit code 0: approved; 2: denied; 3: expired; 1: anything else.',
    )
    .requiredOption('--client <id>', 'the client_id')
    .option('--client-secret <secret>', "its secret; unless it is in the configuration, or one of the demo cast's")
    .option('--client-secret-stdin', 'read its secret from standard input')
    .option('--auth-method <method>', 'how it authenticates, if the configuration does not say')
    .addOption(
      new Option('--mode <mode>', 'its registered delivery mode, if the configuration does not say').choices([
        'poll',
        'ping',
        'push',
      ]),
    )
    .option('--issuer <url>', "the provider; else the configuration's, else http://localhost:4000")
    .option('--login-hint <hint>', 'the user: an email address, a username, a phone number')
    .option('--id-token-hint <token>', 'the user: an earlier ID token')
    .option('--login-hint-token <token>', 'the user: a token that the provider understands')
    .option('--binding-message <text>', 'a text that both devices show, so that the user can compare')
    .option('--scope <scopes>', 'the scopes to request', 'openid')
    .option('--authorization-details <json>', 'the authorization details to request: a JSON array (RFC 9396)')
    .option('--resource <uri>', 'the service that the access token is for (RFC 8707)')
    .option('--acr-values <values>', 'how strongly the user should be authenticated')
    .option('--requested-expiry <seconds>', 'how long the user has to answer')
    .option('--callback-port <number>', 'where to listen for pings and pushes, if a tunnel leads here', readPort)
    .option('--json', 'print one JSON object at the end; progress goes to standard error')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(request, [
    ['npx doorbell request --client demo-till --login-hint alice@example.com --binding-message "Coffee 4.20"', 'poll'],
    ['npx doorbell request --client demo-bank --login-hint alice@example.com --json', 'push, for a script'],
    [
      'npx doorbell request --client till --client-secret-stdin --issuer https://id.example.com --login-hint bob < secret.txt',
      'another provider, without a configuration',
    ],
  ])
}

function readPort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) > 0 && Number(text) < 65_536) return Number(text)
  throw new InvalidArgumentError('It must be a port number, 1 to 65535.')
}

const exitCodes = { approved: 0, denied: 2, expired: 3 }

async function run(options: RequestOptions): Promise<void> {
  const tell = options.json ? (news: string) => void process.stderr.write(`${news}\n`) : print
  const hint = readHint(options)
  try {
    const cast = await findCast(options)
    const client = await findClient(options, cast)
    const metadata = await discover(cast.issuer)
    const notificationToken = newSecret()
    const endpoint =
      client.mode === 'poll'
        ? undefined
        : await openCallBack(notificationToken, client.endpoint, cast.issuer, options.callbackPort)
    try {
      const connection = await connect(client, metadata)
      const ringing = await requestAuthentication(connection, client.mode, notificationToken, {
        ...hint,
        ...parametersOf(options),
      })
      tell(describeRinging(ringing, client, options, endpoint))
      tell(`Waiting for the decision …${adviceFor(options, cast)}`)
      const played = { client, metadata, connection, ringing, options }
      const outcome = await outcomeOf(played, endpoint, tell)
      await report(outcome, played)
      process.exitCode = exitCodes[outcome.kind]
    } finally {
      endpoint?.close()
    }
  } catch (error) {
    if (options.json && error instanceof Refused) {
      printJson({ outcome: 'refused', error: error.error, error_description: error.description })
    }
    throw error
  }
}

function readHint({ loginHint, idTokenHint, loginHintToken }: RequestOptions): Record<string, string | undefined> {
  const hints = { login_hint: loginHint, id_token_hint: idTokenHint, login_hint_token: loginHintToken }
  const given = Object.values(hints).filter((hint) => hint !== undefined).length
  if (given === 1) return hints
  throw new Failure(
    given === 0
      ? 'Name the user: --login-hint alice@example.com, for example.'
      : 'Name the user with only one of --login-hint, --id-token-hint and --login-hint-token.',
  )
}

async function findClient(options: RequestOptions, { clients }: Cast): Promise<PlayedClient> {
  const known = clients.find(({ client_id }) => client_id === options.client)
  const secret = (await readSecret(options)) ?? known?.client_secret
  if (secret === undefined) {
    throw new Failure(
      `The secret of ${options.client} is not in the configuration here. Give it: --client-secret <secret>, or --client-secret-stdin.`,
    )
  }
  return {
    id: options.client,
    name: known?.client_name ?? options.client,
    secret,
    method: options.authMethod ?? known?.token_endpoint_auth_method ?? 'client_secret_basic',
    mode: options.mode ?? known?.backchannel_token_delivery_mode ?? 'poll',
    endpoint: known?.backchannel_client_notification_endpoint,
  }
}

function parametersOf(options: RequestOptions): Record<string, string | undefined> {
  return {
    scope: options.scope,
    binding_message: options.bindingMessage,
    authorization_details: options.authorizationDetails,
    resource: options.resource,
    acr_values: options.acrValues,
    requested_expiry: options.requestedExpiry,
  }
}

function describeRinging(
  { authReqId, expiresIn, interval }: StartedRequest,
  client: PlayedClient,
  { bindingMessage }: RequestOptions,
  endpoint: CallBackEndpoint | undefined,
): string {
  const facts = listing(
    [
      ['auth_req_id', authReqId],
      ['expires in', `${expiresIn} s, at ${iso(Date.now() + expiresIn * 1000)}`],
      ['delivery', client.mode === 'poll' ? `poll, every ${interval} s` : client.mode],
      ['notified at', endpoint?.description],
    ],
    '  ',
  )
  return `${colour('bold', client.name)} asks for approval${bindingMessage === undefined ? '.' : `: ${colour('bold', bindingMessage)}`}\n\n${facts}\n`
}

/**
 * Returns advice for the user of the command: how to decide the request of a demo client. Returns an empty text for
 * other clients, because nothing is known about their users.
 */
function adviceFor({ loginHint, client, json, issuer }: RequestOptions, { clients, issuer: base }: Cast): string {
  const isDemo = client.startsWith('demo-') && clients.some(({ client_id }) => client_id === client)
  if (!isDemo || json || loginHint === undefined) return ''
  const elsewhere = issuer === undefined ? '' : ` --issuer ${issuer}`
  const user = demoUsers.find((each) => [each.id, each.username, each.email].includes(loginHint))
  const signIn = user === undefined ? '' : `, as ${user.username} with the password ${user.password}`
  return `\nIn another terminal: ${colour('green', `npx doorbell device --user ${loginHint}${elsewhere}`)}\nOr in a browser: ${colour('cyan', base)}${signIn}`
}

interface Played {
  client: PlayedClient
  metadata: ProviderMetadata
  connection: Connection
  ringing: StartedRequest
  options: RequestOptions
}

async function outcomeOf(
  { client, connection, ringing }: Played,
  endpoint: CallBackEndpoint | undefined,
  tell: (news: string) => void,
): Promise<Outcome> {
  if (endpoint === undefined) return poll(connection, ringing, tell)
  if (client.mode === 'ping') {
    const pinged = await endpoint.hears(ringing.authReqId, ringing.deadline)
    if (pinged === undefined) return { kind: 'expired' }
    tell('Pinged: the result is ready. Fetching it.')
    return poll(connection, ringing, tell)
  }
  // The provider also pushes the error of an expired request, after the deadline of the request (CIBA Core §12).
  const pushed = await endpoint.hears(ringing.authReqId, ringing.deadline + grace)
  return pushed === undefined ? { kind: 'expired' } : readPush(pushed)
}

/**
 * After the deadline of the request, the command waits this many milliseconds for a push of the error `expired_token`.
 */
const grace = 10_000

function readPush(body: Record<string, unknown>): Outcome {
  if (typeof body.access_token === 'string' && typeof body.id_token === 'string') {
    const { auth_req_id: _, ...tokens } = body
    return { kind: 'approved', tokens: tokens as Tokens }
  }
  if (body.error === 'access_denied') return { kind: 'denied' }
  if (body.error === 'expired_token') return { kind: 'expired' }
  throw new Refused('The provider pushed no tokens', { status: 200, headers: new Headers(), body })
}

async function report(outcome: Outcome, { client, metadata, connection, ringing, options }: Played): Promise<void> {
  const { authReqId, expiresIn } = ringing
  const common = { outcome: outcome.kind, mode: client.mode, auth_req_id: authReqId, expires_in: expiresIn }
  if (outcome.kind !== 'approved') {
    if (options.json) printJson(common)
    else print(endings[outcome.kind])
    return
  }
  if (client.mode === 'push') await connection.verifyPushed(outcome.tokens)
  const idToken = readIdToken(outcome.tokens)
  if (client.mode === 'push') checkPushed(outcome.tokens, idToken, authReqId)
  if (options.json) printJson({ ...common, tokens: outcome.tokens, id_token: idToken })
  else print(describeTokens(outcome.tokens, idToken, metadata, client))
}

const endings = {
  denied: 'Denied by the user. There are no tokens.',
  expired: 'Expired: the user did not answer in time. There are no tokens.',
}

function describeTokens(
  tokens: Tokens,
  { header, claims }: IdToken,
  { issuer }: ProviderMetadata,
  { mode }: PlayedClient,
): string {
  const vouched = mode === 'push' ? ' It matches the tokens that were pushed with it.' : ''
  return [
    colour('green', 'Approved.'),
    '',
    listing(
      Object.entries(tokens).map(([name, value]) => [name, String(value)]),
      '  ',
    ),
    '',
    `The ID token, signed by ${issuer} with ${header.alg}, is valid.${vouched}`,
    '',
    JSON.stringify(claims, null, 2).replaceAll(/^/gm, '  '),
  ].join('\n')
}
