/** Whom a command can play: the clients of the configuration, and the demo cast. */
import type { ClientMetadata, ClientMetadataInput } from '../../client/metadata/client-metadata.ts'
import { demoClients } from '../../config/demo.ts'
import { newSecret } from '../../platform/crypto.ts'
import { loadSettings, type SettingOptions } from '../context/settings.ts'

export interface Cast {
  issuer: string
  /** Whether the configuration, if there is one, is one for development. */
  development: boolean
  /** Of two with the same id the first one counts. */
  clients: readonly ClientMetadataInput[]
}

export async function findCast(options: SettingOptions & { issuer?: string }): Promise<Cast> {
  // Nothing is opened with this secret. Given, so that none is made and kept in a folder where somebody plays a client.
  const { config, hasFile } = await loadSettings(options, { secret: newSecret() })
  const issuer = options.issuer ?? config.issuer
  // The demo clients live at the server that is called, wherever the configuration here would put them.
  const demo = demoClients(issuer.replace(/\/+$/, ''))
  const clients: readonly ClientMetadataInput[] = hasFile ? [...config.clients.map(asInput), ...demo] : demo
  return { issuer, development: config.development, clients }
}

const asInput = (client: ClientMetadata): ClientMetadataInput => ({ ...client })
