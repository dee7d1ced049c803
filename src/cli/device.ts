/** `doorbell device`: acts as the user's device, through a trusted device service. For development only. */
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import type { Command } from 'commander'
import { isLoopback } from '../platform/http/web-address.ts'
import { type Cast, findCast } from './client-role/cast.ts'
import { postAs } from './client-role/connection.ts'
import { Refused } from './client-role/provider.ts'
import { Failure } from './context/failure.ts'
import { readSecret } from './context/secret-input.ts'
import type { SettingOptions } from './context/settings.ts'
import { colour, count, duration, examples, inShell, note, print, printJson } from './context/terminal.ts'

interface DeviceOptions extends SettingOptions {
  user: string
  list?: boolean
  approve?: string
  deny?: string
  wait?: boolean
  client?: string
  clientSecret?: string
  clientSecretStdin?: boolean
  issuer?: string
  json?: boolean
}

export function addDevice(program: Command): void {
  const device = program
    .command('device')
    .description("Act as the user's device: list waiting requests, approve or deny them. For development.")
    .requiredOption('--user <hint>', 'whose device: an email address, a username, a phone number')
    .option('--list', 'list the waiting requests, and exit')
    .option('--approve <request>', 'approve this request, or "latest"')
    .option('--deny <request>', 'deny this request, or "latest"')
    .option('--wait', 'wait for a request if there is none yet')
    .option('--client <id>', "the trusted device service; else the configuration's, else demo-device")
    .option('--client-secret <secret>', 'its secret, if the configuration does not have it')
    .option('--client-secret-stdin', 'read its secret from standard input')
    .option('--issuer <url>', "the provider; else the configuration's, else http://localhost:4000")
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(device, [
    ['npx doorbell device --user alice', 'ask for a decision on each request, until Ctrl-C'],
    ['npx doorbell device --user alice --approve latest --wait', 'approve the next one, in a script'],
  ])
}

async function run(options: DeviceOptions): Promise<void> {
  const device = createDevice(await findService(options), options.user)
  if (options.approve !== undefined && options.deny !== undefined)
    throw new Failure('Give either --approve or --deny, not both.')
  if (options.approve !== undefined) return decide(device, options.approve, 'approved', options)
  if (options.deny !== undefined) return decide(device, options.deny, 'denied', options)
  const isForEyes = process.stdin.isTTY && process.stdout.isTTY
  if (options.list || options.wait || options.json || !isForEyes) return list(device, options)
  return converse(device)
}

interface Service {
  issuer: string
  id: string
  secret: string
  method: string
}

async function findService(options: DeviceOptions): Promise<Service> {
  const cast = await findCast(options)
  refuseProduction(cast)
  const services = cast.clients.filter(({ backchannel_device_service: isService }) => isService)
  const known = services.find(({ client_id }) => options.client === undefined || client_id === options.client)
  const id = options.client ?? known?.client_id ?? 'demo-device'
  const secret = (await readSecret(options)) ?? known?.client_secret
  if (secret === undefined) {
    throw new Failure(
      `The secret of ${id} is not in the configuration here. Give it: --client-secret <secret>, or --client-secret-stdin.`,
    )
  }
  return { issuer: cast.issuer, id, secret, method: known?.token_endpoint_auth_method ?? 'client_secret_basic' }
}

/**
 * Throws if the configuration is for production or the server is on another machine. The reason: this command can
 * decide the requests of every user without asking the user.
 */
function refuseProduction({ issuer, development }: Cast): void {
  if (!URL.canParse(issuer)) throw new Failure(`${issuer} is not an http or https address; see --issuer.`)
  if (development && isLoopback(new URL(issuer).hostname)) return
  throw new Failure(
    'This command decides for users without asking them: it is for development, with a server on this machine.\n' +
      'In production users decide themselves, in the consent app or in their own app through /backchannel/complete.',
  )
}

const notADeviceService = (id: string) =>
  `The server does not accept ${id} as a device service with this secret. Register one, and name it:\n` +
  '  npx doorbell client add --id phones --device-service\n' +
  '  npx doorbell device --client phones --client-secret <secret> --user <user>'

interface WaitingRequest {
  request_id: string
  binding_message?: string
  authorization_details_text?: { lines: string[] }[]
  scope: string
  expires_in: number
  client: { client_id: string; client_name?: string }
  acr_values?: string
}

type Device = ReturnType<typeof createDevice>

function createDevice(service: Service, user: string) {
  const post = (path: string, form: Record<string, string>) =>
    postAs(service, service.issuer + path, new URLSearchParams({ login_hint: user, ...form }), service.issuer)
  return {
    user,
    /** Resolves to the pending requests of the user, newest first. */
    async waiting(): Promise<WaitingRequest[]> {
      const answer = await post('/backchannel/authinfo', { status: 'pending' })
      if (answer.status === 401) throw new Failure(notADeviceService(service.id))
      if (answer.status !== 200) throw new Refused(`The server does not list the requests of ${user}`, answer)
      return answer.body.requests as WaitingRequest[]
    },
    /** Decides a request. Resolves to undefined, or to a message if the request could not be decided any more. */
    async decide(requestId: string, status: 'approved' | 'denied'): Promise<string | undefined> {
      // `auth_time` is the current time, because the user is at this terminal. Nothing more is known about how the user
      // was authenticated.
      const how = { auth_time: String(Math.floor(Date.now() / 1000)), amr: 'dev' }
      const answer = await post('/backchannel/complete', { request_id: requestId, status, ...how })
      if (answer.status === 200) return undefined
      if (answer.status === 409) return `The request was already ${String(answer.body.status)}.`
      if (answer.status === 410) return 'The request has expired.'
      if (answer.status === 404) return `No request ${requestId} is waiting for ${user}. --list shows those that are.`
      throw new Refused('The server does not accept the decision', answer)
    },
  }
}

async function decide(
  device: Device,
  which: string,
  status: 'approved' | 'denied',
  options: DeviceOptions,
): Promise<void> {
  const requestId = which === 'latest' ? await latest(device, options) : which
  const problem = await device.decide(requestId, status)
  if (problem !== undefined) throw new Failure(problem)
  if (options.json) printJson({ request_id: requestId, status })
  else print(`${status === 'approved' ? 'Approved' : 'Denied'}: ${requestId}`)
}

async function latest(device: Device, options: DeviceOptions): Promise<string> {
  const [newest] = options.wait ? await waitForOne(device) : await device.waiting()
  if (newest === undefined)
    throw new Failure(`No request is waiting for ${device.user}. Use --wait to wait for the next request.`)
  return newest.request_id
}

async function list(device: Device, options: DeviceOptions): Promise<void> {
  const requests = options.wait ? await waitForOne(device) : await device.waiting()
  if (options.json) return printJson({ requests })
  if (requests.length === 0) return print(`No request is waiting for ${device.user}.`)
  print(`${count(requests.length, 'request is', 'requests are')} waiting for ${device.user}.`)
  for (const request of requests) print(`\n${describe(request)}\n  ${approving(request, options)}`)
}

/**
 * Returns the command line that approves a request. It does not contain the client secret, because logs and shell
 * histories would keep the secret.
 */
function approving({ request_id: id }: WaitingRequest, options: DeviceOptions): string {
  const { user, config, demo, client, clientSecret, clientSecretStdin, issuer } = options
  const words = [
    ...['npx', 'doorbell', 'device', '--user', user, '--approve', id],
    ...(config === undefined ? [] : ['--config', config]),
    ...(demo ? ['--demo'] : []),
    ...(client === undefined ? [] : ['--client', client]),
    ...(clientSecret === undefined && !clientSecretStdin ? [] : ['--client-secret-stdin']),
    ...(issuer === undefined ? [] : ['--issuer', issuer]),
  ]
  return colour('green', words.map(inShell).join(' '))
}

/** Milliseconds between two queries for pending requests. */
const look = 1000

async function waitForOne(device: Device): Promise<WaitingRequest[]> {
  let hasSaid = false
  for (;;) {
    const requests = await device.waiting()
    if (requests.length > 0) return requests
    if (!hasSaid) note(`No request is waiting for ${device.user} yet. Waiting for a request …`)
    hasSaid = true
    await wait(look)
  }
}

/**
 * Describes a request to the user. The binding message has its own line, because the user compares it with the message
 * on the other device.
 */
function describe({
  client,
  binding_message: message,
  authorization_details_text: details = [],
  scope,
  acr_values: acr,
  expires_in: left,
}: WaitingRequest): string {
  const name = client.client_name ?? client.client_id
  return [
    `  ${colour('bold', name)} asks for your approval.`,
    ...(message === undefined ? [] : ['', `      ${colour(['bold', 'inverse'], ` ${message} `)}`, '']),
    ...details.flatMap(({ lines }) => lines.map((line) => `  ${line}`)),
    colour('dim', `  ${scope}${acr === undefined ? '' : ` (${acr})`} · ${duration(left * 1000)} left`),
  ].join('\n')
}

const answers = new Map<string, 'approved' | 'denied' | 'skip'>([
  ['a', 'approved'],
  ['approve', 'approved'],
  ['y', 'approved'],
  ['yes', 'approved'],
  ['d', 'denied'],
  ['deny', 'denied'],
  ['n', 'denied'],
  ['no', 'denied'],
  ['s', 'skip'],
  ['skip', 'skip'],
])

/** Asks the user about each pending request, the oldest first. */
async function converse(device: Device): Promise<void> {
  process.once('SIGINT', () => process.exit(0))
  const skipped = new Set<string>()
  let hasSaid = false
  for (;;) {
    const next = (await device.waiting()).findLast(({ request_id }) => !skipped.has(request_id))
    if (next === undefined) {
      if (!hasSaid) note(`No request is waiting for ${device.user}. Waiting for a request (Ctrl-C to stop) …`)
      hasSaid = true
      await wait(look)
      continue
    }
    hasSaid = false
    print(`\n${describe(next)}\n`)
    const answer = await ask()
    // Ends the line, so that the next prompt of the shell begins on a new line.
    if (answer === undefined) return print()
    if (answer === 'skip') skipped.add(next.request_id)
    else print(`  ${(await device.decide(next.request_id, answer)) ?? verdicts[answer]}`)
  }
}

const verdicts = { approved: colour('green', 'Approved.'), denied: colour('red', 'Denied.') }

/** Resolves to the answer of the user, or to undefined if the user quits. */
async function ask(): Promise<'approved' | 'denied' | 'skip' | undefined> {
  for (;;) {
    const typed = await prompt('  Approve, deny or skip? [a/d/s] ')
    if (typed === undefined) return undefined
    const answer = answers.get(typed.trim().toLowerCase())
    if (answer !== undefined) return answer
  }
}

/**
 * Resolves to the line that the user types, or to undefined at Ctrl-C or at the end of input. Without the listener for
 * `close`, the promise would never settle in these two cases.
 */
function prompt(question: string): Promise<string | undefined> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  return new Promise((resolve) => {
    terminal.once('close', () => resolve(undefined))
    terminal.question(question, (typed) => {
      resolve(typed)
      terminal.close()
    })
  }).finally(() => terminal.close()) as Promise<string | undefined>
}
