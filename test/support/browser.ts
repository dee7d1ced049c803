/** A browser without scripts: it keeps cookies, follows redirects, and fills in forms. */

export interface Page {
  /** The final URL: of a page of Doorbell, or the target of a redirect to another origin. */
  url: string
  status: number
  text: string
  headers: Headers
}

export interface Browser {
  open(url: string): Promise<Page>
  /** Fills in and submits the form of the page that has these fields. A field may be a named button. */
  submit(page: Page, fields?: Record<string, string>): Promise<Page>
}

/**
 * @param home the origin of the server; a redirect to another origin is not followed
 * @param always headers that are sent with every call
 */
export function openBrowser(home: string, always: Record<string, string> = {}): Browser {
  /** The cookies, by name and path. Cookies of several sign-in pages have the same name and different paths. */
  const jar = new Map<string, { name: string; value: string; path: string }>()

  function cookiesFor(url: URL): string {
    const fit = [...jar.values()].filter(({ path }) => url.pathname.startsWith(path))
    return fit.map(({ name, value }) => `${name}=${value}`).join('; ')
  }

  function keep(headers: Headers): void {
    for (const line of headers.getSetCookie()) {
      const [pair = '', ...attributes] = line.split(/; */)
      const name = pair.slice(0, pair.indexOf('='))
      const path = attributes.find((attribute) => /^path=/i.test(attribute))?.slice(5) ?? '/'
      const value = pair.slice(name.length + 1)
      const key = `${name} ${path}`
      if (value === '' || /expires=Thu, 01 Jan 1970/i.test(line)) jar.delete(key)
      else jar.set(key, { name, value, path })
    }
  }

  async function go(address: string, init: RequestInit = {}): Promise<Page> {
    const url = new URL(address)
    const headers = {
      ...always,
      ...(init.headers as Record<string, string>),
      accept: 'text/html',
      cookie: cookiesFor(url),
    }
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    keep(response.headers)
    const text = await response.text()
    const location = response.headers.get('location')
    if (location === null) return { url: address, status: response.status, text, headers: response.headers }
    const next = new URL(location, url)
    if (next.origin !== new URL(home).origin) {
      return { url: next.href, status: response.status, text, headers: response.headers }
    }
    return go(next.href)
  }

  return {
    open: (url) => go(url),
    submit(page, fields = {}) {
      const form = formsOf(page.text).find((candidate) => Object.keys(fields).every((name) => name in candidate.fields))
      if (form === undefined) throw new Error(`no form with ${Object.keys(fields)} on this page:\n${page.text}`)
      const body = new URLSearchParams({ ...withoutButtons(form), ...fields })
      return go(new URL(form.action, page.url).href, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: String(body),
      })
    },
  }
}

interface Form {
  action: string
  fields: Record<string, string>
  buttons: string[]
}

function formsOf(html: string): Form[] {
  return [...html.matchAll(/<form [^>]*?method="post" action="([^"]+)"[^>]*>(.*?)<\/form>/gs)].map(
    ([, action = '', inside = '']) => {
      const controls = [
        ...inside.matchAll(/<(input|button)(?: type="[^"]*")? name="([^"]+)"(?:[^>]*? value="([^"]*)")?/g),
      ]
      return {
        action,
        fields: Object.fromEntries(controls.map(([, , name = '', value = '']) => [name, value])),
        buttons: controls.filter(([, kind]) => kind === 'button').map(([, , name = '']) => name),
      }
    },
  )
}

/** Returns the fields without the buttons, because a browser sends a button only if it was pressed. */
function withoutButtons({ fields, buttons }: Form): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !buttons.includes(name)))
}
