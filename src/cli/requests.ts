/** `doorbell requests`: lists open authentication requests, and settled requests with their outcomes. */
import type { Command } from 'commander'
import { type AuthenticationRequest, statusAt } from '../ciba/authentication-request/authentication-request.ts'
import { createRequestStore } from '../ciba/authentication-request/authentication-request-store.ts'
import { withDatabase } from './context/desk.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { examples, fromNow, iso, print, printJson, table } from './context/terminal.ts'

interface RequestsOptions extends SettingOptions {
  all?: boolean
  json?: boolean
}

export function addRequests(program: Command): void {
  const command = program
    .command('requests')
    .description('List the authentication requests that wait for a decision, newest first.')
    .option('--all', 'include settled requests (the newest 100)')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(withSettings(command), [
    ['npx doorbell requests', 'open requests'],
    ['npx doorbell requests --all', 'all requests, with their outcomes'],
  ])
}

async function run(options: RequestsOptions): Promise<void> {
  const only = options.all ? 'all' : 'open'
  const requests = await withDatabase(options, ({ database, clock }) =>
    createRequestStore(database).list(only, clock.now()),
  )
  if (options.json) printJson({ requests: requests.map(forScripts) })
  else if (requests.length > 0) {
    print(table(['REQUEST', 'CLIENT', 'USER', 'MODE', 'STATUS', 'CREATED', 'DEADLINE', 'MESSAGE'], requests.map(rowOf)))
  } else print(options.all ? 'There are no requests yet.' : 'No request is waiting. --all includes settled requests.')
}

/**
 * Returns a request for JSON output, without the `auth_req_id`: it is a secret of the client, and only its hash is
 * stored.
 */
function forScripts(request: AuthenticationRequest) {
  return {
    request_id: request.id,
    client_id: request.clientId,
    user_id: request.userId,
    status: statusAt(request, Date.now()),
    delivery_mode: request.deliveryMode,
    scope: request.scope,
    binding_message: request.bindingMessage,
    acr_values: request.acrValues,
    interval: request.interval,
    created_at: iso(request.createdAt),
    expires_at: iso(request.expiresAt),
    ...(request.settledAt !== undefined && { settled_at: iso(request.settledAt) }),
  }
}

function rowOf(request: AuthenticationRequest): string[] {
  const status = statusAt(request, Date.now())
  return [
    request.id,
    request.clientId,
    request.userId,
    request.deliveryMode,
    status,
    fromNow(request.createdAt),
    ['pending', 'approved'].includes(status) ? fromNow(request.expiresAt) : '',
    request.bindingMessage ?? '',
  ]
}
