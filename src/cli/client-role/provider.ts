/** Reads the metadata document of a provider, and gives advice on the errors of the provider. */
import { Failure } from '../context/failure.ts'
import { type Answer, call } from './web.ts'

export interface ProviderMetadata {
  issuer: string
  token_endpoint: string
  backchannel_authentication_endpoint: string
  jwks_uri: string
  id_token_signing_alg_values_supported?: string[]
}

/** The client that the command acts as. */
export interface PlayedClient {
  id: string
  name: string
  secret: string
  method: string
  mode: 'poll' | 'ping' | 'push'
  /** The registered notification endpoint; undefined if there is none, or if the command does not know it. */
  endpoint: string | undefined
}

const needed = ['token_endpoint', 'backchannel_authentication_endpoint', 'jwks_uri'] as const

export async function discover(issuer: string): Promise<ProviderMetadata> {
  if (!URL.canParse(issuer) || !/^https?:/.test(issuer))
    throw new Failure(`${issuer} is not an http or https address; see --issuer.`)
  const { status, body } = await call(`${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`)
  if (status !== 200) throw new Failure(`${issuer} is not an OpenID provider: its metadata document answers ${status}.`)
  // OpenID Connect Discovery §4.3: the `issuer` in the metadata document must be the requested issuer, so that no
  // issuer can impersonate another.
  if (body.issuer !== issuer) {
    throw new Failure(
      `The provider at ${issuer} has the issuer ${String(body.issuer)}. Use that address: --issuer ${String(body.issuer)}`,
    )
  }
  const absent = needed.filter((name) => typeof body[name] !== 'string')
  if (absent.length > 0) throw new Failure(`${issuer} does not support CIBA: its metadata lacks ${absent.join(', ')}.`)
  return body as unknown as ProviderMetadata
}

/** Thrown for an OAuth error of the provider. The message contains the description that the provider sent. */
export class Refused extends Failure {
  override readonly name = 'Refused'
  readonly error: string
  readonly description: string | undefined

  constructor(what: string, { status, body }: Answer) {
    const error = typeof body.error === 'string' ? body.error : `HTTP ${status}`
    const description = typeof body.error_description === 'string' ? body.error_description : undefined
    super(`${what}: ${error}${description === undefined ? '' : ` (${description})`}.${adviceFor(error, description)}`)
    this.error = error
    this.description = description
  }
}

function adviceFor(error: string, description = ''): string {
  // The command sends `client_notification_token` in the modes ping and push only (CIBA Core §7.1).
  if (error === 'invalid_request' && description.includes('client_notification_token is missing')) return adviceOnMode
  return advice[error as keyof typeof advice] ?? ''
}

const adviceOnMode =
  '\nThe command acted as a client that polls. Add the registered mode of this client ("npx doorbell client show <id>" names it), and the port of its notification endpoint on this machine: --mode ping --callback-port 5000, or --mode push --callback-port 5000, for example.'

const advice = {
  invalid_client: '\nIs the client registered there, and with this secret? --client-secret gives another one.',
  unknown_user_id: '\nNo user has this hint. "npx doorbell user list" lists the users.',
  unauthorized_client:
    '\nA client that sends authentication requests must be registered with a delivery mode: "npx doorbell client add --mode poll".',
}
