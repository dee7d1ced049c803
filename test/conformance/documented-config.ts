/**
 * The configuration of the provider in docs/fapi-ciba.md, character by character: the plan has to pass with this
 * configuration and no other settings. Only names of hosts, files and keys are replaced by those of the test.
 */
import assert from 'node:assert/strict'
import type { ConfigInput } from '../../src/config/config.ts'
import { examplesIn } from '../documentation/markdown.ts'

const page = 'docs/fapi-ciba.md'

/** What the page can only give as an example. */
export interface Placeholders {
  issuer: string
  /** PEM texts. The key and the certificate of the server are those of `openTlsStage`. */
  clientCa: string
  notificationsCa: string
  /** The clients of the suite, with keys and addresses of their own; none if they register themselves. */
  clients: NonNullable<ConfigInput['clients']>
}

/** The members of a client that the page leaves out, or that it shows for only one of two variants. */
const ownMembers = [
  'client_id',
  'jwks',
  'backchannel_token_delivery_mode',
  'backchannel_client_notification_endpoint',
  'token_endpoint_auth_method',
  'tls_client_auth_subject_dn',
]

export async function documentedConfig(own: Placeholders): Promise<ConfigInput> {
  const { clients, registration, ...documented } = await readDocumented()
  assert.deepEqual(Object.keys(documented.tls ?? {}), ['key', 'cert', 'clientCa'])
  assert.deepEqual(Object.keys(documented.notifications ?? {}), ['ca'])
  const [client, ...others] = clients ?? []
  assert.ok(client !== undefined && others.length === 0, 'the page shows one client')
  const shared = Object.fromEntries(Object.entries(client).filter(([name]) => !ownMembers.includes(name)))
  const areStatic = own.clients.length > 0
  return {
    ...documented,
    issuer: own.issuer,
    host: '127.0.0.1',
    tls: { clientCa: own.clientCa },
    notifications: { ca: own.notificationsCa },
    clients: own.clients.map((each) => {
      const given = Object.entries(each).filter(([name]) => ownMembers.includes(name))
      return { ...shared, ...Object.fromEntries(given) } as typeof each
    }),
    ...(!areStatic && registration !== undefined && { registration }),
  }
}

/** Evaluates the example: it is the settings within `defineConfig`. */
async function readDocumented(): Promise<ConfigInput> {
  const example = examplesIn(page).find(({ code }) => code.startsWith('// conformance.config.ts'))
  assert.ok(example !== undefined, `${page} has no configuration for the suite`)
  const importing = /^import \{ defineConfig \} from 'doorbell-ciba'$/m
  assert.match(example.code, importing)
  const module = example.code.replace(importing, 'const defineConfig = (config) => config')
  const { default: config } = (await import(`data:text/javascript,${encodeURIComponent(module)}`)) as {
    default: ConfigInput
  }
  return config
}
