/**
 * A low-level browser: it keeps cookies, follows one redirect at a time, and can send any headers.
 */

export interface Seen {
  status: number
  /** The target of the redirect. If it is on this server, it is a path without the origin. */
  location: string | undefined
  headers: Headers
  text: string
}

export interface Visitor {
  jar: Map<string, string>
  get(path: string, headers?: Record<string, string>): Promise<Seen>
  post(path: string, form: Record<string, string>, headers?: Record<string, string>): Promise<Seen>
  /** Sends a request with the stored cookies. */
  send(path: string, init: RequestInit): Promise<Seen>
  /** Follows redirects to the final page. */
  follow(seen: Seen): Promise<Seen>
  /** Opens `path`, and signs in on the sign-in page that follows. Resolves to the next page. */
  signIn(who: { username: string; password: string }, path?: string): Promise<Seen>
}

/**
 * @param url the URL on which the server listens
 * @param issuer the issuer of the server
 * @param always headers that are sent with every call
 */
export function openVisitor(url: string, issuer = url, always: Record<string, string> = {}): Visitor {
  const jar = new Map<string, string>()

  async function send(path: string, init: RequestInit): Promise<Seen> {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = {
      accept: 'text/html',
      ...always,
      ...(cookie && { cookie }),
      ...(init.headers as Record<string, string>),
    }
    const response = await fetch(url + path, { ...init, headers, redirect: 'manual' })
    for (const line of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (value === '' || /expires=Thu, 01 Jan 1970/i.test(line)) jar.delete(name)
      else jar.set(name, value)
    }
    const location = response.headers.get('location')?.replace(issuer, '')
    return { status: response.status, location, headers: response.headers, text: await response.text() }
  }

  const visitor: Visitor = {
    jar,
    send,
    get: (path, headers = {}) => send(path, { headers }),
    post: (path, form, headers = {}) =>
      send(path, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
        body: String(new URLSearchParams(form)),
      }),
    async follow(seen) {
      let now = seen
      while (now.location?.startsWith('/')) now = await visitor.get(now.location)
      return now
    },
    async signIn({ username, password }, path = '/') {
      const page = await visitor.follow(await visitor.get(path))
      const action = /<form method="post" action="([^"]*\/sign-in\/[^"/]+)">/.exec(page.text)?.[1]
      if (action === undefined) throw new Error(`no sign-in page: ${page.status} ${page.text}`)
      return visitor.follow(await visitor.post(action, { name: username, password }))
    },
  }
  return visitor
}

/** Returns the anti-forgery token of a form on this page. */
export function formTokenOn({ text }: Seen): string {
  const token = /name="form_token" value="([^"]+)"/.exec(text)?.[1]
  if (token === undefined) throw new Error(`no form on this page: ${text}`)
  return token
}
