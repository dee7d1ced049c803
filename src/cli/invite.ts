/** `doorbell client invite`: creates an initial access token for dynamic registration (RFC 7591 §3). */
import type { Command } from 'commander'
import { createInitialAccessStore } from '../client/registration/initial-access-token-store.ts'
import { newSecret } from '../platform/crypto.ts'
import { withNewDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { count, examples, iso, note, print, printJson } from './context/terminal.ts'

interface InviteOptions extends SettingOptions {
  uses: string
  expires: string
  json?: boolean
}

export function addInvite(client: Command): void {
  const invite = client
    .command('invite')
    .description(
      'Create an initial access token, with which a client registers itself at /oauth/register. It is shown once.',
    )
    .option('--uses <number>', 'how many clients may be registered with it', '1')
    .option('--expires <time>', 'how long it is valid: 30m, 24h or 7d, for example', '24h')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => runInvite(command.optsWithGlobals()))
  examples(withSettings(invite), [['npx doorbell client invite --uses 2 --expires 7d', 'for two clients, this week']])
}

async function runInvite(options: InviteOptions): Promise<void> {
  const uses = readUses(options.uses)
  const lifetime = readTime(options.expires)
  const token = newSecret()
  const made = await withNewDatabase(options, async ({ config, database, clock, audit }) => {
    const now = clock.now()
    await createInitialAccessStore(database).add(token, uses, now, now + lifetime)
    audit({ event: 'client.invited', by: 'command' })
    return { config, expiresAt: now + lifetime }
  })
  const { mode } = made.config.registration
  if (options.json) {
    return printJson({ initial_access_token: token, uses, expires_at: iso(made.expiresAt), registration: mode })
  }
  print(token)
  print()
  print(
    `Valid for ${count(uses, 'registration')}, until ${iso(made.expiresAt)}. It is shown only once and stored as a hash.`,
  )
  if (mode !== 'token') note(`registration.mode is "${mode}": this token has no effect unless it is "token".`)
}

function readUses(text: string): number {
  const uses = Number(text)
  if (!/^\d{1,6}$/.test(text) || uses < 1) throw new Failure('--uses must be a whole number, at least 1.')
  return uses
}

const units = { m: 60_000, h: 3600_000, d: 24 * 3600_000 }

function readTime(text: string): number {
  const [, amount, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? []
  if (amount === undefined || Number(amount) === 0) throw new Failure('--expires must be like 30m, 24h or 7d.')
  return Number(amount) * units[unit as keyof typeof units]
}
