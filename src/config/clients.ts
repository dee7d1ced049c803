/** The clients of the configuration. */
import { type ClientMetadata, CONSENT_APP, DECIDE_SCOPE } from '../client/metadata/client-metadata.ts'
import { type ClientCircumstances, readClientMetadata } from '../client/metadata/read-client-metadata.ts'
import { isPlain } from '../platform/validation.ts'
import type { Config } from './config.ts'

interface ClientReading extends Required<Omit<ClientCircumstances, 'detailTypes'>> {
  detailTypes?: readonly string[]
  /** What clients may be registered for; nothing if the application adds scopes of its own. */
  scopes: string[] | undefined
}

export function readClients(
  inputs: unknown[],
  { scopes, ...circumstances }: ClientReading,
): { clients: ClientMetadata[]; complaints: string[] } {
  const complaints: string[] = []
  const clients: ClientMetadata[] = []
  const owners = new Map<string, number>()
  for (const [index, input] of inputs.entries()) {
    const place = `clients[${index}]`
    if (!isPlain(input)) {
      complaints.push(`${place} must be an object`)
      continue
    }
    const read = readClientMetadata(input, circumstances)
    if ('complaints' in read) complaints.push(...read.complaints.map((complaint) => `${place}.${complaint}`))
    else {
      clients.push(read.client)
      const strange = read.client.scope?.split(' ').find((scope) => scopes?.includes(scope) === false)
      if (strange !== undefined) complaints.push(`${place}.scope holds "${strange}", which is not in tokens.scopes`)
    }
    if (input.client_id === CONSENT_APP)
      complaints.push(`${place}.client_id is that of Doorbell's own client; take another`)
    const owner = owners.get(String(input.client_id))
    if (owner !== undefined) complaints.push(`${place}.client_id is the same as clients[${owner}].client_id`)
    else if (typeof input.client_id === 'string') owners.set(input.client_id, index)
  }
  return { clients, complaints }
}

/** What tokens may be for: the configured scopes, and ours. */
export function scopesOf(config: Pick<Config, 'tokens'>): string[] {
  return [...new Set([...config.tokens.scopes, DECIDE_SCOPE])]
}
