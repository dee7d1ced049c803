/** The HTTP calls of the demo's till. Each call is shown on the page with an explanation. */
import type { ReceivedCallBack } from './order.ts'
import type { Wire } from './wire.ts'

export type Json = Record<string, unknown>

export interface TillClientNeeds {
  paths: { backchannel: string; token: string; jwks: string }
  secretOf(clientId: string): string | undefined
  /** Sends one HTTP request to the server. */
  send(request: {
    method: 'GET' | 'POST'
    path: string
    headers: Record<string, string>
    body?: string
  }): Promise<{ status: number; text: string; headers: Record<string, string> }>
  wire: Wire
}

/**
 * A call, with the explanation that is shown to newcomers: before the response arrives (`meaning`) and after that
 * (`meaningOf`).
 */
interface Call {
  client: string
  path: string
  fields: Record<string, string>
  meaning: string
  meaningOf(answer: TillAnswer): string | undefined
}

export interface TillAnswer {
  status: number
  body: Json
}

export type TillClient = ReturnType<typeof createTillClient>

const CIBA = 'urn:openid:params:grant-type:ciba'
const form = 'application/x-www-form-urlencoded'

const saidBy: Record<string, string> = {
  authorization_pending: 'Not yet.',
  slow_down: 'Not yet, and ask less often.',
  access_denied: 'She refused.',
  expired_token: 'The request expired.',
}

export function createTillClient({ paths, secretOf, send, wire }: TillClientNeeds) {
  async function post({ client, path, fields, meaning, meaningOf }: Call): Promise<TillAnswer> {
    const authorization = `Basic ${Buffer.from(`${client}:${secretOf(client) ?? ''}`).toString('base64')}`
    const body = String(new URLSearchParams(fields))
    const sent = { from: 'till', to: 'doorbell', method: 'POST', path, authorization, contentType: form, body } as const
    const asked = wire.send({ ...sent, meaning })
    const answer = await send({ method: 'POST', path, headers: { authorization, 'content-type': form }, body })
    const read = { status: answer.status, body: parse(answer.text) }
    const contentType = answer.headers['content-type']
    asked({ status: answer.status, contentType, body: answer.text, meaning: meaningOf(read) })
    return read
  }

  return {
    /** Sends the authentication request (CIBA Core §7.1). */
    requestAuthentication(client: string, fields: Record<string, string>): Promise<TillAnswer> {
      const meaning = 'The till sends an authentication request for Alice.'
      const meaningOf = ({ status }: TillAnswer) =>
        status === 200 ? `${meaning} Doorbell accepts it and returns its auth_req_id.` : undefined
      return post({ client, path: paths.backchannel, fields, meaning, meaningOf })
    },

    /**
     * Sends a token request (CIBA Core §10.1). With poll, the till repeats this request until there is a result. With
     * ping, one request is enough.
     */
    requestTokens(client: string, authReqId: string, isPolling: boolean): Promise<TillAnswer> {
      const meaning = isPolling ? 'The till polls: has Alice decided?' : 'The till fetches the result.'
      const meaningOf = ({ status, body }: TillAnswer) => {
        const said = status === 200 ? 'She agreed: here are the tokens.' : saidBy[String(body.error)]
        return said && `${meaning} ${said}`
      }
      const fields = { grant_type: CIBA, auth_req_id: authReqId }
      return post({ client, path: paths.token, fields, meaning, meaningOf })
    },

    /** Fetches the server's public keys. */
    async fetchKeys(): Promise<Json> {
      const path = paths.jwks
      const meaning = 'The till fetches the public keys and checks the signature of the ID token.'
      const asked = wire.send({ from: 'till', to: 'doorbell', method: 'GET', path, meaning })
      const answer = await send({ method: 'GET', path, headers: { accept: 'application/json' } })
      asked({ status: answer.status, contentType: 'application/json', body: answer.text })
      return parse(answer.text)
    },

    /** Shows a ping or a push that has arrived. */
    showNotification({ name, status, ...call }: ReceivedCallBack, isPing: boolean): void {
      const { id_token: idToken, error } = parse(call.body)
      const result = idToken
        ? 'she agreed, here are the tokens.'
        : (saidBy[String(error)] ?? 'no tokens will be issued.')
      const meaning = `Doorbell notifies the till: ${isPing ? 'the result is ready.' : result}`
      wire.send({ from: 'doorbell', to: 'till', method: 'POST', path: `/dev/callback/${name}`, meaning, ...call })({
        status,
      })
    },
  }
}

/** Returns the JSON object in `text`, or an empty object if `text` is not a JSON object. */
export function parse(text: string): Json {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Json) : {}
  } catch {
    return {}
  }
}
