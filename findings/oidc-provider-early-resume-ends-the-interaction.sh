#!/bin/sh
# Package:   oidc-provider 9.13.3
# Set-up:    A browser is at the sign-in page of an authorization request: `interactions.url` names the page by the uid of the
#            interaction. Before the user has submitted the form, the browser opens the `returnTo` address of the
#            interaction, as it does when the user goes forward in the history or has the page open twice.
# Guess:     There is no result yet, so the browser is sent back to the same sign-in page, and the open form stays valid.
# Behaviour: The interaction is deleted and another one is stored, with another uid and a new lifetime. The form that is
#            still open belongs to the deleted interaction: submitting it ends with "interaction session not found". A server
#            with sign-in pages of its own should answer such a visit itself, with a redirect to the same page.
# Output:    an early visit of returnTo: another interaction, and the form of the first one is answered SessionNotFound
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
cat > try.mjs <<'EOF'
import { createServer } from 'node:http'
console.info = () => {}
console.warn = () => {}
const { Provider } = await import('oidc-provider')

const issuer = 'http://localhost:9097'
const provider = new Provider(issuer, {
  clients: [{ client_id: 'web', client_secret: 'a secret', redirect_uris: ['https://web.example/callback'] }],
  cookies: { keys: ['a key that signs cookies'] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_ctx, { uid }) => `/sign-in/${uid}` },
})
const handle = provider.callback()
const server = createServer(async (request, response) => {
  if (!request.url.startsWith('/sign-in/')) return handle(request, response)
  try {
    const { uid, returnTo } = await provider.interactionDetails(request, response)
    response.end(JSON.stringify({ uid, returnTo }))
  } catch (error) {
    response.statusCode = 400
    response.end(JSON.stringify({ error: error.constructor.name }))
  }
})
await new Promise((resolve) => server.listen(9097, resolve))

/** The cookies of a browser, with their paths. */
const jar = []
async function open(path) {
  const cookie = jar.filter((each) => path.startsWith(each.path)).map((each) => `${each.name}=${each.value}`).join('; ')
  const seen = await fetch(`${issuer}${path}`, { redirect: 'manual', headers: { cookie } })
  for (const line of seen.headers.getSetCookie()) {
    const [pair, ...attributes] = line.split('; ')
    const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]
    const path = attributes.find((each) => /^path=/i.test(each))?.slice(5) ?? '/'
    const at = jar.findIndex((each) => each.name === name && each.path === path)
    if (at >= 0) jar.splice(at, 1)
    if (value !== '') jar.push({ name, value, path })
  }
  return seen
}

const challenge = 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
const asked = await open(
  `/auth?client_id=web&response_type=code&scope=openid&code_challenge=${challenge}&code_challenge_method=S256`,
)
const signIn = asked.headers.get('location')
const first = await (await open(signIn)).json()
const early = await open(new URL(first.returnTo).pathname)
const again = early.headers.get('location')
const second = await (await open(again)).json()
const stale = await (await open(signIn)).json()
server.close()
const differs = second.uid !== undefined && first.uid !== second.uid
console.log(
  `an early visit of returnTo: ${differs ? 'another' : 'the same'} interaction, and the form of the first one is answered ${stale.error ?? 'as before'}`,
)
process.exitCode = differs && stale.error === 'SessionNotFound' ? 0 : 1
EOF
node try.mjs 2>/dev/null
