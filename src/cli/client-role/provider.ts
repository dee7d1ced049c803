/** What a client knows of a provider: its metadata document, and how to speak to it as a registered client. */
import { SignJWT } from 'jose'
import { newSecret } from '../../platform/crypto.ts'
import { Failure } from '../context/failure.ts'
import { type Answer, call, postForm } from './web.ts'

export interface ProviderMetadata {
  issuer: string
  token_endpoint: string
  backchannel_authentication_endpoint: string
  jwks_uri: string
  id_token_signing_alg_values_supported?: string[]
}

/** The client that is played. */
export interface PlayedClient {
  id: string
  name: string
  secret: string
  method: string
  mode: 'poll' | 'ping' | 'push'
  /** Where it is registered to be notified. */
  endpoint: string | undefined
}

const needed = ['token_endpoint', 'backchannel_authentication_endpoint', 'jwks_uri'] as const

export async function discover(issuer: string): Promise<ProviderMetadata> {
  if (!URL.canParse(issuer) || !/^https?:/.test(issuer))
    throw new Failure(`${issuer} is no http or https address; see --issuer.`)
  const { status, body } = await call(`${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`)
  if (status !== 200) throw new Failure(`${issuer} is no OpenID provider: its metadata document answers ${status}.`)
  // OpenID Connect Discovery §4.3: otherwise anybody could speak in another's name.
  if (body.issuer !== issuer) {
    throw new Failure(
      `At ${issuer} there is a provider that calls itself ${String(body.issuer)}. Use that name: --issuer ${String(body.issuer)}`,
    )
  }
  const absent = needed.filter((name) => typeof body[name] !== 'string')
  if (absent.length > 0) throw new Failure(`${issuer} does not do CIBA: its metadata lacks ${absent.join(', ')}.`)
  return body as unknown as ProviderMetadata
}

/** POSTs a form with the client's own proof of who it is. */
export async function postAs(
  client: Pick<PlayedClient, 'id' | 'secret' | 'method'>,
  url: string,
  form: URLSearchParams,
  issuer: string,
): Promise<Answer> {
  switch (client.method) {
    case 'client_secret_basic':
      return postForm(url, form, { authorization: basic(client.id, client.secret) })
    case 'client_secret_post':
      return postForm(url, joined(form, { client_id: client.id, client_secret: client.secret }))
    case 'client_secret_jwt':
      return postForm(url, joined(form, await assertion(client, issuer)))
    default:
      throw new Failure(
        `${client.id} proves itself by ${client.method}, which cannot be played from here; client_secret_basic, client_secret_post and client_secret_jwt can.`,
      )
  }
}

function joined(form: URLSearchParams, more: Record<string, string>): URLSearchParams {
  return new URLSearchParams([...form, ...Object.entries(more)])
}

/** RFC 6749 §2.3.1: both halves are encoded before they are joined. */
function basic(id: string, secret: string): string {
  return `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`
}

async function assertion(
  { id, secret }: Pick<PlayedClient, 'id' | 'secret'>,
  issuer: string,
): Promise<Record<string, string>> {
  const jwt = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer(id)
    .setSubject(id)
    .setAudience(issuer)
    .setJti(newSecret(16))
    .setIssuedAt()
    .setExpirationTime('1 minute')
    .sign(new TextEncoder().encode(secret))
  return {
    client_id: id,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: jwt,
  }
}

/** A refusal of the provider, in its own words. */
export class Refused extends Failure {
  override readonly name = 'Refused'
  readonly error: string
  readonly description: string | undefined

  constructor(what: string, { status, body }: Answer) {
    const error = typeof body.error === 'string' ? body.error : `HTTP ${status}`
    const description = typeof body.error_description === 'string' ? body.error_description : undefined
    super(`${what}: ${error}${description === undefined ? '' : ` (${description})`}.${adviceFor(error)}`)
    this.error = error
    this.description = description
  }
}

function adviceFor(error: string): string {
  return advice[error as keyof typeof advice] ?? ''
}

const advice = {
  invalid_client: '\nIs the client registered there, and with this secret? --client-secret gives another one.',
  unknown_user_id: '\nNobody is known by this hint: "npx doorbell user list" says who is.',
  unauthorized_client:
    '\nA client that rings is registered with a delivery mode: "npx doorbell client add --mode poll".',
}
