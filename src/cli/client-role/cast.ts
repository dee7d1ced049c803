/** Finds the clients that a command can act as: the clients of the configuration, and the demo clients. */
import type { ClientMetadata, ClientMetadataInput } from '../../client/metadata/client-metadata.ts'
import { demoClients } from '../../config/demo.ts'
import { newSecret } from '../../platform/crypto.ts'
import { loadSettings, type SettingOptions } from '../context/settings.ts'

export interface Cast {
  issuer: string
  /**
   * Whether the configuration is for development. Also true for the demo configuration, which is used if there is no
   * file.
   */
  development: boolean
  /** If two clients have the same id, the first one is used. */
  clients: readonly ClientMetadataInput[]
}

export async function findCast(options: SettingOptions & { issuer?: string }): Promise<Cast> {
  // This secret encrypts nothing. Without it, loading the configuration would generate a secret and store it in the current
  // folder.
  const { config, hasFile } = await loadSettings(options, { secret: newSecret() })
  const issuer = options.issuer ?? config.issuer
  // The notification endpoints of the demo clients are at the server that is called, which may have another
  // configuration.
  const demo = demoClients(issuer.replace(/\/+$/, ''))
  const clients: readonly ClientMetadataInput[] = hasFile ? [...config.clients.map(asInput), ...demo] : demo
  return { issuer, development: config.development, clients }
}

const asInput = (client: ClientMetadata): ClientMetadataInput => ({ ...client })
