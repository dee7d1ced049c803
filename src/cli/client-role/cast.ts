/** The clients and users that a command can act as: those of the configuration, and the demo clients and users. */
import type { ClientMetadata, ClientMetadataInput } from '../../client/metadata/client-metadata.ts'
import { demoClients } from '../../config/demo.ts'
import { newSecret } from '../../platform/crypto.ts'
import { loadSettings, type SettingOptions } from '../context/settings.ts'

export interface Cast {
  issuer: string
  /** Whether the configuration is one for development. If there is no configuration, that of the demo is. */
  development: boolean
  /** If two clients have the same id, the first one is used. */
  clients: readonly ClientMetadataInput[]
}

export async function findCast(options: SettingOptions & { issuer?: string }): Promise<Cast> {
  // This secret encrypts nothing. Without it, a secret would be generated and stored in the current folder.
  const { config, hasFile } = await loadSettings(options, { secret: newSecret() })
  const issuer = options.issuer ?? config.issuer
  // The addresses of the demo clients belong to the server that is called, not to this configuration.
  const demo = demoClients(issuer.replace(/\/+$/, ''))
  const clients: readonly ClientMetadataInput[] = hasFile ? [...config.clients.map(asInput), ...demo] : demo
  return { issuer, development: config.development, clients }
}

const asInput = (client: ClientMetadata): ClientMetadataInput => ({ ...client })
