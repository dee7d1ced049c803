/** Records the secrets in every HTTP call of this process. For tests that search for stored secrets. */
import type { TestContext } from 'node:test'

/** The names of parameters and members that are secrets, in forms, JSON and URLs. */
const secretNames = new Set([
  'auth_req_id',
  'client_secret',
  'client_assertion',
  'client_notification_token',
  'login_hint',
  'login_hint_token',
  'id_token_hint',
  'id_token',
  'access_token',
  'refresh_token',
  'token',
  'password',
  'code',
  'code_verifier',
  'request',
  'user_code',
  'present_code',
  'registration_access_token',
])

/** The minimum length of a recorded secret. A shorter text would also occur by chance. */
const shortest = 8

export interface Wiretap {
  /** Each secret, with the place where it was first seen. */
  secrets: Map<string, string>
  /** Records a secret that has no name in the call. Returns the secret. */
  note(secret: string, where: string): string
}

export function tapWires(t: TestContext): Wiretap {
  const secrets = new Map<string, string>()
  const real = globalThis.fetch
  globalThis.fetch = async (input, init) => {
    const asked = new Request(input, init)
    const where = `${asked.method} ${new URL(asked.url).pathname.slice(0, 30)}`
    overhear(asked.headers, await asked.clone().text(), asked.url, `${where}, request`)
    const response = await real(input, init)
    overhear(
      response.headers,
      await response.clone().text(),
      response.headers.get('location') ?? '',
      `${where}, response`,
    )
    return response
  }
  t.after(() => {
    globalThis.fetch = real
  })

  function note(secret: string, where: string): string {
    if (secret.length >= shortest && !secrets.has(secret)) secrets.set(secret, where)
    return secret
  }

  function overhear(headers: Headers, body: string, url: string, where: string): void {
    const [scheme = '', credentials = ''] = (headers.get('authorization') ?? '').split(' ')
    note(credentials, `${where}: authorization`)
    if (/^basic$/i.test(scheme)) {
      const [, secret = ''] = Buffer.from(credentials, 'base64').toString().split(':')
      note(secret, `${where}: the secret in Basic`)
    }
    for (const header of ['dpop', 'dpop-nonce']) note(headers.get(header) ?? '', `${where}: ${header}`)
    for (const cookie of [...(headers.get('cookie') ?? '').split('; '), ...headers.getSetCookie()]) {
      note(/^[^=]*=([^;]*)/.exec(cookie)?.[1] ?? '', `${where}: cookie ${cookie.split('=')[0]}`)
    }
    const query = url.includes('?') ? url.slice(url.indexOf('?')) : ''
    for (const [name, value] of [...fieldsOf(body), ...new URLSearchParams(query)]) {
      if (secretNames.has(name)) note(value, `${where}: ${name}`)
    }
  }

  return { secrets, note }
}

function fieldsOf(body: string): [string, string][] {
  if (!body.startsWith('{')) return [...new URLSearchParams(body)]
  try {
    return Object.entries(JSON.parse(body)).map(([name, value]) => [name, String(value)])
  } catch {
    return []
  }
}
