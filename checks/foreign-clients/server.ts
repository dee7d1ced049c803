/**
 * Starts the server that the foreign clients call. The server is a separate process, and uses TLS with `tls.clientCa`.
 * Also creates the keys and certificates of the clients. All files are in one folder. Its file `material.json` contains
 * all that a client needs to know.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, exportPKCS8, type JWK } from 'jose'
import type { ClientMetadataInput, PublicJwk } from '../../src/client/metadata/client-metadata.ts'
import type { ConfigInput } from '../../src/config/config.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import { type KeyHolder, newKey } from '../../test/support/assertions.ts'
import { type Certified, certify, certifyServer } from '../../test/support/certificates.ts'
import { freePort } from '../../test/support/ports.ts'
import { startServer } from '../../test/support/process.ts'
import { CIBA } from '../../test/support/stage.ts'

/** The content of `material.json`. Programs in other languages read these names. */
export interface Material {
  issuer: string
  /** The path of the file with the authority that issued the server's certificate. */
  authority: string
  /** A URL. A POST with `auth_req_id` and `action` (`allow`, `deny`) decides a request for the user. */
  decide: string
  login_hint: string
  sub: string
  /** The client listens with TLS on this port for pings and pushes. It may use any path. */
  endpoint: { port: number; key: string; cert: string }
  clients: Record<ClientName, ClientMaterial>
}

export type ClientName =
  | 'poll'
  | 'assertion'
  | 'ping'
  | 'push'
  | 'signed'
  | 'pki'
  | 'self_signed'
  | 'bound'
  | 'push_pki'
  | 'dpop'

export interface ClientMaterial {
  client_id: string
  id_token_signed_response_alg: string
  client_secret?: string
  /** The private key for assertions and signed requests, in two formats: `jwk` with `kid` and `alg`, and `pem`. */
  jwk?: JWK
  pem?: string
  /**
   * The paths of two files: `cert` contains the certificate, followed by the certificates of its issuers; `key` the
   * private key.
   */
  cert?: string
  key?: string
}

export interface RunningServer {
  /** The path of `material.json`. */
  material: string
  /** The path of the authority's file. Some libraries take it from the environment. */
  authority: string
  logLines: string[]
  stop(): Promise<void>
}

const ana = { id: 'user-ana', username: 'ana', email: 'ana@example.com', name: 'Ana', password: newSecret(12) }
type Metadata = Partial<ClientMetadataInput>
const pollMode: Metadata = { grant_types: [CIBA, 'refresh_token'], backchannel_token_delivery_mode: 'poll' }
const bound: Metadata = { tls_client_certificate_bound_access_tokens: true }

export async function startForForeignClients(): Promise<RunningServer> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-foreign-'))
  try {
    return await startIn(folder)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

async function startIn(folder: string): Promise<RunningServer> {
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  const [port, endpointPort] = [await freePort(), await freePort()]
  const { authority, server } = await certifyServer()
  const issuer = `https://localhost:${port}`
  const { registered, given } = await registerAll(authority, `https://localhost:${endpointPort}`, file)
  const authorityFile = await file('authority.pem', authority.cert)
  const config: ConfigInput = {
    issuer,
    port,
    development: true,
    database: `sqlite:${join(folder, 'doorbell.db')}`,
    secret: newSecret(32),
    tls: { key: server.key, cert: server.cert, clientCa: authority.cert },
    notifications: { ca: authority.cert },
    requests: { interval: 1, maxOpenPerUser: 1000 },
    registration: { mode: 'open', perHour: 1000 },
    dpop: { requireNonce: true },
    clients: registered,
    users: [ana],
  }
  const material: Material = {
    issuer,
    authority: authorityFile,
    decide: `${issuer}/dev/decide`,
    login_hint: ana.email,
    sub: ana.id,
    endpoint: {
      port: endpointPort,
      key: await file('server.key', server.key),
      cert: await file('server.pem', server.cert),
    },
    clients: given,
  }
  const running = await startServer(await file('doorbell.config.json', JSON.stringify(config)))
  return {
    material: await file('material.json', JSON.stringify(material, undefined, 2)),
    authority: authorityFile,
    logLines: running.logLines,
    async stop() {
      await running.terminate()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

type WriteFile = (name: string, text: string) => Promise<string>

/** Resolves to the clients in two forms: the registrations for the server, and the material for the foreign clients. */
async function registerAll(authority: Certified, endpoint: string, file: WriteFile) {
  const certificates = await certifyClients(authority)
  const [assertion, signed, dpop] = [await newKey('a', 'ES256'), await newKey('s', 'PS256'), await newKey('d', 'ES384')]
  const keys = { assertion, signed, dpop }
  const chains: Partial<Record<ClientName, Certified[]>> = {
    pki: [certificates.pki, certificates.intermediate],
    push_pki: [certificates.pushPki],
    self_signed: [certificates.selfSigned],
    bound: [certificates.unregistered],
  }
  const selfSigned = { ...(await newKey('c')).publicJwk, x5c: [certificates.selfSigned.x5c] }
  const metadata = metadataOf(keys, selfSigned, endpoint)
  const given = {} as Record<ClientName, ClientMaterial>
  for (const name of Object.keys(metadata) as ClientName[]) {
    const { client_secret, id_token_signed_response_alg } = metadata[name]
    const [key, chain] = [keys[name as keyof typeof keys], chains[name]]
    given[name] = {
      client_id: name,
      id_token_signed_response_alg: String(id_token_signed_response_alg),
      ...(client_secret !== undefined && { client_secret: String(client_secret) }),
      ...(key !== undefined && (await keyMaterial(key))),
      ...(chain !== undefined && (await certificateFiles(name, chain, file))),
    }
  }
  const registered = Object.entries(metadata).map(
    ([client_id, each]) => ({ client_id, client_name: client_id, ...each }) as ClientMetadataInput,
  )
  return { registered, given }
}

type Keys = Record<'assertion' | 'signed' | 'dpop', KeyHolder>

function metadataOf(keys: Keys, selfSigned: PublicJwk, endpoint: string): Record<ClientName, Metadata> {
  const notified = (path: string): Metadata => ({ backchannel_client_notification_endpoint: `${endpoint}/${path}` })
  const pushMode: Metadata = {
    grant_types: ['refresh_token'],
    backchannel_token_delivery_mode: 'push',
    ...notified('push'),
  }
  const secret = () => ({ client_secret: newSecret() })
  const byKey = ({ publicJwk }: KeyHolder): Metadata => ({
    token_endpoint_auth_method: 'private_key_jwt',
    jwks: { keys: [publicJwk] },
  })
  const idToken = (alg: 'RS256' | 'PS256' | 'ES256'): Metadata => ({ id_token_signed_response_alg: alg })
  return {
    poll: { ...pollMode, ...secret(), ...idToken('RS256') },
    assertion: { ...pollMode, ...byKey(keys.assertion), ...idToken('ES256') },
    ping: {
      ...pollMode,
      ...secret(),
      ...notified('ping'),
      ...idToken('PS256'),
      backchannel_token_delivery_mode: 'ping',
      token_endpoint_auth_method: 'client_secret_post',
    },
    push: { ...pushMode, ...secret(), ...idToken('ES256') },
    signed: {
      ...pollMode,
      ...byKey(keys.signed),
      ...idToken('PS256'),
      backchannel_authentication_request_signing_alg: 'PS256',
    },
    pki: {
      ...pollMode,
      ...bound,
      ...idToken('ES256'),
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: 'CN=Till 7,O=Acme\\, Inc.,C=DE',
    },
    self_signed: {
      ...pollMode,
      ...bound,
      ...idToken('ES256'),
      token_endpoint_auth_method: 'self_signed_tls_client_auth',
      jwks: { keys: [selfSigned] },
    },
    bound: { ...pollMode, ...bound, ...secret(), ...idToken('ES256') },
    push_pki: {
      ...pushMode,
      ...bound,
      ...idToken('ES256'),
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_san_dns: 'push.acme.example',
    },
    dpop: { ...pollMode, ...byKey(keys.dpop), ...idToken('ES256'), dpop_bound_access_tokens: true },
  }
}

async function certifyClients(authority: Certified) {
  const intermediate = await certify({ subject: 'CN=Acme authority', isAuthority: true, by: authority })
  return {
    intermediate,
    pki: await certify({
      subject: 'C=DE, O="Acme, Inc.", CN=Till 7',
      by: intermediate,
      purposes: ['1.3.6.1.5.5.7.3.2'],
    }),
    pushPki: await certify({ subject: 'CN=push', by: authority, names: [{ type: 'dns', value: 'push.acme.example' }] }),
    selfSigned: await certify({ subject: 'CN=self-signed' }),
    unregistered: await certify({ subject: 'CN=no authority of the server' }),
  }
}

async function keyMaterial({ privateKey, publicJwk }: KeyHolder) {
  return { jwk: { ...publicJwk, ...(await exportJWK(privateKey)) }, pem: await exportPKCS8(privateKey) }
}

async function certificateFiles(name: string, chain: Certified[], file: WriteFile) {
  return {
    cert: await file(`${name}.pem`, chain.map(({ cert }) => cert).join('')),
    key: await file(`${name}.key`, chain[0]!.key),
  }
}
