/** `doorbell keys`: what tokens are signed with. */
import type { Command } from 'commander'
import { createSigningKeyStore, type KeptKey } from '../authorization-server/signing-key-store.ts'
import { atDesk } from './desk.ts'
import { type SettingOptions, withSettings } from './settings.ts'
import { examples, fromNow, iso, print, printJson, table } from './terminal.ts'

interface KeysOptions extends SettingOptions {
  json?: boolean
}

export function addKeys(program: Command): void {
  const keys = program.command('keys').description('The keys that tokens are signed with.')
  examples(keys, [['npx doorbell keys', 'the keys and since when they are in use']])
  const list = keys
    .command('list', { isDefault: true })
    .description('List the signing keys. The private halves are never shown.')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(withSettings(list), [['npx doorbell keys list --json', 'the same for a script']])
}

async function run(options: KeysOptions): Promise<void> {
  const kept = await atDesk(options, ({ database }) => createSigningKeyStore(database).list())
  if (options.json) printJson({ keys: kept.map(forScripts) })
  else if (kept.length === 0) print('There are no keys yet. The server makes them when it first starts.')
  else print(table(['KEY', 'ALGORITHM', 'GENERATION', 'MADE', 'STATE'], kept.map(rowOf)))
}

function isSigning({ retiredAt }: KeptKey): boolean {
  return retiredAt === undefined || retiredAt > Date.now()
}

function forScripts(key: KeptKey) {
  return {
    kid: key.kid,
    algorithm: key.algorithm,
    generation: key.generation,
    state: isSigning(key) ? 'signing' : 'retired',
    created_at: iso(key.createdAt),
    ...(key.retiredAt !== undefined && { retired_at: iso(key.retiredAt) }),
    public_jwk: JSON.parse(key.publicJwk) as unknown,
  }
}

function rowOf(key: KeptKey): string[] {
  const state = isSigning(key) ? 'signs' : `retired ${fromNow(key.retiredAt!)}, still verifies`
  return [key.kid, key.algorithm, String(key.generation), fromNow(key.createdAt), state]
}
