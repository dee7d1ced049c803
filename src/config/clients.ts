/** Reads the clients of the configuration. */
import { type ClientMetadata, CONSENT_APP, DECIDE_SCOPE } from '../client/metadata/client-metadata.ts'
import { readClientMetadata, type ValidationContext } from '../client/metadata/read-client-metadata.ts'
import { unusedMembers } from '../client/metadata/unused-members.ts'
import { isPlain } from '../platform/validation.ts'
import type { Config, UnusedSetting } from './config.ts'

interface ClientReading extends Required<Omit<ValidationContext, 'detailTypes'>> {
  detailTypes?: readonly string[]
  /**
   * The scopes that clients may register. The scopes are not known, and this is undefined, if `tokens.scopes` is
   * invalid or the setting `oidc` adds scopes or claims. Then the scopes of clients are not checked.
   */
  scopes: string[] | undefined
}

export function readClients(
  inputs: unknown[],
  { scopes, ...circumstances }: ClientReading,
): { clients: ClientMetadata[]; unused: UnusedSetting[]; problems: string[] } {
  const problems: string[] = []
  const unused: UnusedSetting[] = []
  const clients: ClientMetadata[] = []
  const owners = new Map<string, number>()
  for (const [index, input] of inputs.entries()) {
    const place = `clients[${index}]`
    if (!isPlain(input)) {
      problems.push(`${place} must be an object`)
      continue
    }
    const read = readClientMetadata(input, circumstances)
    if ('problems' in read) problems.push(...read.problems.map((problem) => `${place}.${problem}`))
    else {
      clients.push(read.client)
      for (const { name, problem } of unusedMembers(input)) unused.push({ setting: `${place}.${name}`, problem })
      const strange = read.client.scope?.split(' ').find((scope) => scopes?.includes(scope) === false)
      if (strange !== undefined) problems.push(`${place}.scope contains "${strange}", which is not in tokens.scopes`)
    }
    if (input.client_id === CONSENT_APP)
      problems.push(`${place}.client_id is that of Doorbell's own client; use another`)
    const owner = owners.get(String(input.client_id))
    if (owner !== undefined) problems.push(`${place}.client_id is the same as clients[${owner}].client_id`)
    else if (typeof input.client_id === 'string') owners.set(input.client_id, index)
  }
  return { clients, unused, problems }
}

/** Returns the scopes that tokens may have: the configured scopes, and Doorbell's own scope. */
export function scopesOf(config: Pick<Config, 'tokens'>): string[] {
  return [...new Set([...config.tokens.scopes, DECIDE_SCOPE])]
}
