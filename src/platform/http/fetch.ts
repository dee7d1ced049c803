/** `fetch` for libraries, with the checks and limits of `outgoing.ts`. */
import type { GuardedCaller } from './outgoing.ts'

interface FetchOptions {
  method?: string
  headers?: unknown
  body?: unknown
}

/** Returns a `fetch` that makes each call through `caller`. */
export function fetchThrough(caller: GuardedCaller) {
  return async (url: string | URL, options: FetchOptions = {}): Promise<Response> => {
    const { status, body, headers } = await caller.call({
      url: String(url),
      method: options.method === 'POST' ? 'POST' : 'GET',
      headers: { accept: 'application/json', ...plain(options.headers) },
      ...(options.body !== undefined && options.body !== null && { body: String(options.body) }),
    })
    return toResponse(status, headers, body)
  }
}

export function toResponse(status: number, headers: Record<string, string>, body: string): Response {
  return new Response(status === 204 || status === 304 ? null : body, { status, headers })
}

function plain(headers: unknown): Record<string, string> {
  return Object.fromEntries(new Headers(headers as ConstructorParameters<typeof Headers>[0]))
}
