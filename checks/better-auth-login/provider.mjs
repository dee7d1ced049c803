/**
 * An application with better-auth, which is also an OpenID provider, as in docs/guides/sign-in-elsewhere.md. Reads what
 * it needs from the environment, and prints the client that it has made for Doorbell as JSON.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { DatabaseSync } from 'node:sqlite'
import { oauthProvider } from '@better-auth/oauth-provider'
import { betterAuth } from 'better-auth'
import { getMigrations } from 'better-auth/db/migration'
import { toNodeHandler } from 'better-auth/node'
import { jwt } from 'better-auth/plugins'

const { PORT, REDIRECT_URI, PEOPLE, BETTER_AUTH_SECRET } = process.env
const baseURL = `http://localhost:${PORT}`

const database = new DatabaseSync(':memory:')
const auth = betterAuth({
  baseURL,
  secret: BETTER_AUTH_SECRET,
  database,
  emailAndPassword: { enabled: true },
  disabledPaths: ['/token'],
  plugins: [jwt(), oauthProvider({ loginPage: '/sign-in', consentPage: '/consent' })],
})
await (await getMigrations(auth.options)).runMigrations()

let headers
for (const { name, email, password, isVerified } of JSON.parse(PEOPLE)) {
  const signedUp = await auth.api.signUpEmail({ body: { name, email, password }, returnHeaders: true })
  if (isVerified) database.prepare('update user set emailVerified = 1 where email = ?').run(email)
  headers ??= new Headers({
    cookie: signedUp.headers
      .getSetCookie()
      .map((line) => line.split(';')[0])
      .join('; '),
  })
}

// A client of the type `web` may not have a redirect URI on this machine.
const client = await auth.api.adminCreateOAuthClient({
  headers,
  body: { client_name: 'Doorbell', redirect_uris: [REDIRECT_URI], skip_consent: true, application_type: 'native' },
})

const signInPage = `<!doctype html><title>Sign in</title>
<form><input name="email"><input name="password" type="password"><button>Sign in</button></form>
<script>
document.querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const { email, password } = Object.fromEntries(new FormData(event.target))
  const answer = await fetch('/api/auth/sign-in/email', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ email, password, oauth_query: location.search.slice(1) }),
  })
  const { url, redirect_uri } = await answer.json()
  location.assign(url ?? redirect_uri)
})
</script>`

const handler = toNodeHandler(auth)
const server = createServer((request, response) => {
  if (request.url.startsWith('/api/auth/')) return handler(request, response)
  if (!request.url.startsWith('/sign-in?')) return response.writeHead(404).end()
  response.writeHead(200, { 'content-type': 'text/html' }).end(signInPage)
})
server.listen(Number(PORT), 'localhost')
await once(server, 'listening')
console.log(JSON.stringify({ issuer: `${baseURL}/api/auth`, ...client }))
