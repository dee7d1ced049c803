/**
 * Uses openid-client to call a provider as a registered client. In the `doorbell` command, only this file loads
 * openid-client, and only when a call is made.
 */
import type { ClientAuth, Configuration, CustomFetch } from 'openid-client'
import { CIBA_GRANT } from '../../client/metadata/client-metadata.ts'
import { Failure } from '../context/failure.ts'
import type { PlayedClient, ProviderMetadata } from './provider.ts'
import { type Answer, answerOf, call, fetchWhole, timeoutMs, Unreachable } from './web.ts'

type Library = typeof import('openid-client')

type Credentials = Pick<PlayedClient, 'id' | 'secret' | 'method'>

/** POSTs a form with the authentication of the client, for endpoints that openid-client does not support. */
export async function postAs(client: Credentials, url: string, form: URLSearchParams, issuer: string): Promise<Answer> {
  const authenticate = authenticationOf(client, await import('openid-client'))
  const body = new URLSearchParams(form)
  const headers = new Headers({ accept: 'application/json' })
  await authenticate({ issuer }, { client_id: client.id }, body, headers)
  return call(url, { method: 'POST', headers, body })
}

export interface Connection {
  /** Resolves to the response to an authentication request (CIBA Core §7): an acknowledgement or an error. */
  initiate(parameters: URLSearchParams): Promise<Answer>
  /** Resolves to the response of the token endpoint. If it contains tokens, the ID token has been verified. */
  redeem(authReqId: string): Promise<Answer>
  /** Throws if the ID token of a push is not valid. */
  verifyPushed(tokens: object): Promise<void>
}

/** Accepted difference, in seconds, between the clock of the provider and the clock of this machine. */
const clockToleranceSeconds = 5

export async function connect(client: PlayedClient, metadata: ProviderMetadata): Promise<Connection> {
  const library = await import('openid-client')
  const authentication = authenticationOf(client, library)

  function configure(fetch: CustomFetch): Configuration {
    const rules = { [library.clockTolerance]: clockToleranceSeconds }
    const configuration = new library.Configuration({ ...metadata }, client.id, rules, authentication)
    library.allowInsecureRequests(configuration)
    // Without this, openid-client would not verify the signature of an ID token that arrives over TLS.
    library.enableNonRepudiationChecks(configuration)
    configuration.timeout = timeoutMs / 1000
    configuration[library.customFetch] = fetch
    return configuration
  }

  /**
   * Calls the provider with `send`, and resolves to the response as received. The value that openid-client returns is
   * not used, because it lacks details of errors and contains `bearer` instead of `Bearer`.
   */
  async function answerTo(send: (configuration: Configuration) => Promise<unknown>): Promise<Answer> {
    const answers: Answer[] = []
    const configuration = configure(async (url, options) => {
      const response = await fetchWhole(url, options as RequestInit)
      if (options.method === 'POST') answers.push(await answerOf(response.clone()))
      return response
    })
    try {
      await send(configuration)
    } catch (error) {
      if (answers[0] === undefined) throw unreachableBehind(error) ?? error
      if (answers[0].status === 200) throw unbelievable(error)
    }
    return answers[0]!
  }

  return {
    initiate: (parameters) =>
      answerTo((configuration) => library.initiateBackchannelAuthentication(configuration, parameters)),
    redeem: (authReqId) =>
      answerTo((configuration) => library.genericGrantRequest(configuration, CIBA_GRANT, { auth_req_id: authReqId })),
    async verifyPushed(tokens) {
      // A push has the content of a token response (CIBA Core §10.3.1), so it is validated as a token response.
      const configuration = configure(async (url, options) =>
        options.method === 'POST' ? Response.json(tokens) : fetchWhole(url, options as RequestInit),
      )
      await library.genericGrantRequest(configuration, CIBA_GRANT, {}).catch((error) => {
        throw unbelievable(error)
      })
    },
  }
}

function authenticationOf({ id, secret, method }: Credentials, library: Library): ClientAuth {
  switch (method) {
    case 'client_secret_basic':
      return library.ClientSecretBasic(secret)
    case 'client_secret_post':
      return library.ClientSecretPost(secret)
    case 'client_secret_jwt':
      return library.ClientSecretJwt(secret)
    default:
      throw new Failure(
        `${id} authenticates by ${method}, which this command does not support. It supports client_secret_basic, client_secret_post and client_secret_jwt.`,
      )
  }
}

function unreachableBehind(error: unknown): Unreachable | undefined {
  return error instanceof Error && error.cause instanceof Unreachable ? error.cause : undefined
}

/**
 * Returns the failure for a response with status 200 that openid-client rejected. The message is taken from the `cause`
 * of openid-client's error, because the error's own message says less.
 */
function unbelievable(error: unknown): Failure {
  const problem = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error)
  const { claim, body } = Object(problem.cause) as { claim?: string; body?: object }
  const what = body === undefined ? 'an ID token' : 'a response'
  const reason = claim === undefined ? problem.message : `unexpected "${claim}" claim value`
  const why = problem instanceof Unreachable ? 'the keys of the provider cannot be fetched' : reason
  return new Failure(`The provider sent ${what} that is not valid: ${why}.`)
}
