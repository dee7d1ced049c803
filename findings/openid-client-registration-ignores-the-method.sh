#!/bin/sh
# Package:   openid-client 6.9.0 (with oauth4webapi 3.8.8)
# Set-up:    Clients register with dynamicClientRegistration, each with a token_endpoint_auth_method. The server answers with
#            that method, and with a secret. Each client then asks for a token.
# Guess:     The returned configuration authenticates as it was registered: its clientMetadata() has the method, and the
#            method of a client that names none is client_secret_basic (RFC 7591 §2).
# Behaviour: The registered method is not looked at. The third argument decides, and without it the secret is sent in the
#            body, as its documentation says; a server that accepts only the registered method refuses that. So the method
#            has to be given twice: in the metadata and, as ClientSecretBasic(), as the third argument.
# Output:    registered client_secret_basic: sends client_secret_post; client_secret_jwt: client_secret_post; basic with ClientSecretBasic(): client_secret_basic
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund openid-client@6.9.0 oauth4webapi@3.8.8 >/dev/null
cat > try.mjs <<'EOF'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import * as openid from 'openid-client'

let sent
const server = createServer(async (request, response) => {
  const body = await text(request)
  const [status, answer] = answerTo(request, body)
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
}).listen(0, '127.0.0.1')
await once(server, 'listening')
const issuer = `http://127.0.0.1:${server.address().port}`

function answerTo({ url, headers }, body) {
  if (url === '/register') {
    const issued = { client_id: 'one', client_secret: 'a-secret-of-the-client', client_secret_expires_at: 0 }
    return [201, { ...JSON.parse(body), ...issued }]
  }
  if (url === '/token') {
    sent = methodOf(headers, new URLSearchParams(body))
    return [200, { access_token: 'one', token_type: 'Bearer' }]
  }
  return [200, { issuer, registration_endpoint: `${issuer}/register`, token_endpoint: `${issuer}/token` }]
}

function methodOf(headers, parameters) {
  if (headers.authorization?.startsWith('Basic ')) return 'client_secret_basic'
  if (parameters.has('client_secret')) return 'client_secret_post'
  return parameters.has('client_assertion') ? 'client_secret_jwt' : 'none'
}

async function methodAfter(registered, authentication) {
  const metadata = { token_endpoint_auth_method: registered, grant_types: ['client_credentials'], redirect_uris: [] }
  const config = await openid.dynamicClientRegistration(new URL(issuer), metadata, authentication, {
    execute: [openid.allowInsecureRequests],
  })
  if (config.clientMetadata().token_endpoint_auth_method !== registered) throw new Error('registered otherwise')
  await openid.clientCredentialsGrant(config)
  return sent
}

const basic = await methodAfter('client_secret_basic')
const jwt = await methodAfter('client_secret_jwt')
const given = await methodAfter('client_secret_basic', openid.ClientSecretBasic())
server.close()
console.log(
  `registered client_secret_basic: sends ${basic}; client_secret_jwt: ${jwt}; basic with ClientSecretBasic(): ${given}`,
)
const isAsDescribed = [basic, jwt, given].join() === 'client_secret_post,client_secret_post,client_secret_basic'
process.exitCode = isAsDescribed ? 0 : 1
EOF
node try.mjs
