/** `doorbell keys`: lists and rotates the signing keys. */
import { type Command, Option } from 'commander'
import {
  keyTimesOf,
  type Rotation,
  type RotationNeeds,
  revokeKey,
  rotateKey,
} from '../openid-provider/signing-keys/key-rotation.ts'
import { createSigningKeyStore, type KeptKey } from '../openid-provider/signing-keys/signing-key-store.ts'
import { type KeyAlgorithm, keyAlgorithms, stateOf } from '../openid-provider/signing-keys/signing-keys.ts'
import { type CommandContext, withDatabase } from './context/desk.ts'
import { Failure } from './context/failure.ts'
import { type SettingOptions, withSettings } from './context/settings.ts'
import { examples, fromNow, iso, print, printJson, table } from './context/terminal.ts'

interface KeysOptions extends SettingOptions {
  json?: boolean
}

interface RotateOptions extends KeysOptions {
  alg?: 'ES256' | 'RS256' | 'PS256' | 'all'
  now?: boolean
  revoke?: string
}

export function addKeys(program: Command): void {
  const keys = program.command('keys').description('The keys that sign tokens.')
  examples(keys, [
    ['npx doorbell keys', 'the keys, and when each changes its state'],
    ['npx doorbell keys rotate', 'publish the next keys, which sign later'],
  ])
  const list = keys
    .command('list', { isDefault: true })
    .description('List the signing keys. The private halves are never shown.')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => showKeys(command.optsWithGlobals()))
  examples(withSettings(list), [['npx doorbell keys list --json', 'the same for a script']])

  const rotate = keys
    .command('rotate')
    .description('Publish the next key of each algorithm. It signs after keys.publishAhead; running servers notice.')
    .addOption(
      new Option('--alg <algorithm>', 'only this one; RS256 and PS256 are the same RSA key (default: all)').choices([
        'ES256',
        'RS256',
        'PS256',
        'all',
      ]),
    )
    .option('--now', 'sign with it at once, before clients have fetched it')
    .option('--revoke <kid>', 'revoke this key and remove it from the key set at once; only together with --now')
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => rotateKeys(command.optsWithGlobals()))
  examples(withSettings(rotate), [
    ['npx doorbell keys rotate', 'the usual way, without interruption'],
    ['npx doorbell keys rotate --now --revoke <kid>', 'a private key was disclosed'],
  ])
}

async function showKeys(options: KeysOptions): Promise<void> {
  const kept = await withDatabase(options, ({ database }) => createSigningKeyStore(database).list())
  if (options.json) printJson({ keys: kept.map(forScripts) })
  else if (kept.length === 0) print('There are no keys yet. The server creates them at its first start.')
  else print(table(['KEY', 'ALGORITHM', 'GENERATION', 'CREATED', 'STATE'], kept.map(rowOf)))
}

async function rotateKeys(options: RotateOptions): Promise<void> {
  if (options.revoke !== undefined && !options.now) {
    throw new Failure('--revoke needs --now: another key has to sign at once.')
  }
  const rotations = await withDatabase(options, (context) => rotateAt(context, options))
  if (options.json) printJson({ rotations: rotations.map(rotationForScripts) })
  else print(rotations.map(describe).join('\n\n'))
}

async function rotateAt(
  { config, database, vault, clock, audit }: CommandContext,
  options: RotateOptions,
): Promise<Rotation[]> {
  const needs = { keys: createSigningKeyStore(database), vault, clock, times: keyTimesOf(config) }
  const revoked = options.revoke === undefined ? [] : [await revoke(options.revoke, needs)]
  const replaced = revoked.map(({ algorithm }) => algorithm)
  const rotations = [...revoked]
  for (const algorithm of algorithmsOf(options).filter((one) => !replaced.includes(one))) {
    rotations.push(await rotateKey(algorithm, { atOnce: options.now === true }, needs))
  }
  for (const { algorithm, outcome, next, revoked } of rotations) {
    for (const { kid } of revoked) audit({ event: 'keys.revoked', by: algorithm, about: kid })
    if (outcome === 'rotated') audit({ event: 'keys.rotated', by: algorithm, about: next.kid })
  }
  return rotations
}

/**
 * Returns the algorithms whose keys must be rotated. With `--revoke` but no `--alg`, returns an empty list, because the
 * revocation itself replaces the revoked key.
 */
function algorithmsOf({ alg, revoke }: RotateOptions): readonly KeyAlgorithm[] {
  if (alg === 'PS256') return ['RS256']
  if (alg === undefined || alg === 'all') return alg === undefined && revoke !== undefined ? [] : keyAlgorithms
  return [alg]
}

async function revoke(kid: string, needs: RotationNeeds): Promise<Rotation> {
  const rotation = await revokeKey(kid, needs)
  if (rotation === undefined) {
    throw new Failure(`There is no key ${kid} to revoke. "npx doorbell keys" lists them.`)
  }
  return rotation
}

function describe({ algorithm, outcome, next, former, revoked }: Rotation): string {
  const name = algorithm === 'RS256' ? 'RS256 and PS256' : algorithm
  const isWaiting = next.signsFrom > Date.now()
  return [
    outcome === 'rotated' ? `${name}: the next key is ${next.kid}` : `${name}: nothing to do, ${next.kid} is the next`,
    `  published since ${when(next.createdAt)}`,
    `  ${isWaiting ? 'signs from' : 'signs since'} ${when(next.signsFrom)}`,
    ...revoked.map(({ kid }) => `${kid} is revoked: its signatures are no longer accepted`),
    ...(former?.retirement === undefined ? [] : describeEnd(former.kid, former.retirement, isWaiting)),
  ].join('\n')
}

function describeEnd(kid: string, end: NonNullable<KeptKey['retirement']>, signs: boolean): string[] {
  return [
    `${kid} ${signs ? 'signs until then' : 'no longer signs'}`,
    `  stays published until ${when(end.publishedUntil)}, when the last token it signed has expired`,
    `  verifies ID tokens given as hints until ${when(end.verifiesUntil)}`,
  ]
}

function when(time: number): string {
  return `${iso(time)} (${fromNow(time)})`
}

function rotationForScripts({ algorithm, outcome, next, former, revoked }: Rotation) {
  return {
    algorithm,
    outcome,
    next: forScripts(next),
    ...(former !== undefined && { former: forScripts(former) }),
    revoked: revoked.map(forScripts),
  }
}

function forScripts(key: KeptKey) {
  const { retirement, revokedAt } = key
  return {
    kid: key.kid,
    algorithm: key.algorithm,
    generation: key.generation,
    state: stateOf(key, Date.now()),
    created_at: iso(key.createdAt),
    signs_from: iso(key.signsFrom),
    ...(retirement !== undefined && {
      retired_at: iso(retirement.at),
      published_until: iso(retirement.publishedUntil),
      verifies_until: iso(retirement.verifiesUntil),
    }),
    ...(revokedAt !== undefined && { revoked_at: iso(revokedAt) }),
    public_jwk: JSON.parse(key.publicJwk) as unknown,
  }
}

function rowOf(key: KeptKey): string[] {
  return [key.kid, key.algorithm, String(key.generation), fromNow(key.createdAt), stateInWords(key)]
}

function stateInWords(key: KeptKey): string {
  const { signsFrom, retirement, revokedAt } = key
  const until = (time: number) => `until ${iso(time)}`
  switch (stateOf(key, Date.now())) {
    case 'published':
      return `published, signs ${fromNow(signsFrom)}`
    case 'signing':
      return retirement === undefined ? 'signs' : `signs ${until(retirement.at)}`
    case 'retired':
      return `retired ${fromNow(retirement!.at)}, published ${until(retirement!.publishedUntil)}`
    case 'unpublished':
      return `retired ${fromNow(retirement!.at)}, verifies hints ${until(retirement!.verifiesUntil)}`
    case 'removed':
      return `retired ${fromNow(retirement!.at)}, no longer used`
    case 'revoked':
      return `revoked ${fromNow(revokedAt!)}`
  }
}
