/** Calls a provider over HTTP. If the provider does not respond, the error message says what went wrong. */
import { Failure } from '../context/failure.ts'

export interface Answer {
  status: number
  headers: Headers
  /** The JSON object in the response; empty if the response contains none. */
  body: Record<string, unknown>
}

/** Thrown if the provider did not respond. A retry may succeed. */
export class Unreachable extends Failure {
  override readonly name = 'Unreachable'
}

/** Milliseconds to wait for a response: longer than a working provider takes for any response, even to a long poll. */
export const timeoutMs = 40_000

export async function call(url: string, request: RequestInit = {}): Promise<Answer> {
  return answerOf(await fetchWhole(url, request))
}

/** Resolves when the whole response has been received. Throws an {@link Unreachable} if there is no response. */
export async function fetchWhole(url: string, request: RequestInit): Promise<Response> {
  try {
    // Do not follow redirects: credentials must not be sent to another address.
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(timeoutMs), ...request })
    const { status, statusText, headers } = response
    return new Response((await response.text()) || null, { status, statusText, headers })
  } catch (error) {
    throw Object.assign(new Unreachable(wordsFor(error, new URL(url))), { cause: error })
  }
}

export async function answerOf(response: Response): Promise<Answer> {
  return { status: response.status, headers: response.headers, body: parse(await response.text()) }
}

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

function wordsFor(error: unknown, { origin }: URL): string {
  const code = codeOf(error)
  if (code === 'ECONNREFUSED') {
    return `No server answers at ${origin}. Is the server running? "npx doorbell serve --demo" starts one; --issuer names another.`
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return `There is no host called ${new URL(origin).hostname}. Is --issuer right?`
  if (/CERT|SSL|TLS/.test(code)) {
    return `The certificate of ${origin} is not accepted (${code}). If it is from an authority of your own, name that authority in NODE_EXTRA_CA_CERTS.`
  }
  return `${origin} does not answer${code ? ` (${code})` : ''}.`
}

/**
 * Returns the code of an error, or an empty text. An error of `fetch` has no code itself: the code is in its `cause`.
 * If `fetch` tried several addresses, the code is in the errors that `cause` lists.
 */
export function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return ''
  if (error.name === 'TimeoutError') return 'timeout'
  if ('code' in error && typeof error.code === 'string') return error.code
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  return codeOf(error.cause)
}
