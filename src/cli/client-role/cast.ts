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
  /** The clients that a command can act as. If two of them have the same id, the first one is used. */
  clients: readonly ClientMetadataInput[]
}

export async function findCast(options: SettingOptions & { issuer?: string }): Promise<Cast> {
  // This secret is not used. It is passed because loading the configuration without a secret would generate one and
  // store it in the current folder.
  const { config, hasFile } = await loadSettings(options, { secret: newSecret() })
  const issuer = options.issuer ?? config.issuer
  // The notification endpoints of the demo clients are at the called server (`issuer`). The configuration of that
  // server may differ from the one that this command has loaded.
  const demo = demoClients(issuer.replace(/\/+$/, ''))
  const clients: readonly ClientMetadataInput[] = hasFile ? [...config.clients.map(asInput), ...demo] : demo
  return { issuer, development: config.development, clients }
}

const asInput = (client: ClientMetadata): ClientMetadataInput => ({ ...client })
