/** Calls to a provider, as any client makes them, and sentences for when there is no answer. */
import { Failure } from '../context/failure.ts'

export interface Answer {
  status: number
  headers: Headers
  /** The JSON answer; empty if it is none. */
  body: Record<string, unknown>
}

/** Nobody answered, so trying again may help. */
export class Unreachable extends Failure {
  override readonly name = 'Unreachable'
}

/** Longer than any answer of a provider that works, a held poll included. */
export const timeoutMs = 40_000

export async function call(url: string, request: RequestInit = {}): Promise<Answer> {
  return answerOf(await fetchWhole(url, request))
}

/** Resolves when the whole response is there. Throws an {@link Unreachable} if none comes. */
export async function fetchWhole(url: string, request: RequestInit): Promise<Response> {
  try {
    // Credentials are not carried to wherever a redirect may lead.
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(timeoutMs), ...request })
    const { status, statusText, headers } = response
    return new Response((await response.text()) || null, { status, statusText, headers })
  } catch (error) {
    throw new Unreachable(wordsFor(error, new URL(url)))
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

/** fetch says little itself; what happened is its cause, or the causes of all addresses it tried. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return ''
  if (error.name === 'TimeoutError') return 'timeout'
  if ('code' in error && typeof error.code === 'string') return error.code
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  return codeOf(error.cause)
}
