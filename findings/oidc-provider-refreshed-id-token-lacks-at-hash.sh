#!/bin/sh
# Package:   oidc-provider 9.13.3
# Set-up:    A client with a refresh token of the scope "openid offline_access" refreshes it, and gets an access token and an
#            ID token in one response.
# Guess:     The ID token contains at_hash, as that of the hybrid flow does, so that the client can check that the two tokens
#            belong together (OpenID Connect Core §3.1.3.6, §12.2).
# Behaviour: It does not. The claim is optional, oidc-provider has the code that computes it, but its token endpoint never
#            sets it, and no setting does. An application that wants it has to set it before IdToken.prototype.issue runs.
# Output:    the refreshed ID token has at_hash: false
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
cat > try.mjs <<'EOF'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

console.info = console.warn = () => {}
const server = createServer().listen(0, '127.0.0.1')
await once(server, 'listening')
const issuer = `http://127.0.0.1:${server.address().port}`
const client = {
  client_id: 'app',
  client_secret: 'a-secret-of-the-client',
  redirect_uris: ['https://app.example/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
}
const provider = new Provider(issuer, { clients: [client] })
server.on('request', provider.callback())

const grant = new provider.Grant({ accountId: 'ana', clientId: 'app' })
grant.addOIDCScope('openid offline_access')
const grantId = await grant.save()
const token = new provider.RefreshToken({
  accountId: 'ana',
  client: await provider.Client.find('app'),
  grantId,
  gty: 'authorization_code',
  scope: 'openid offline_access',
})
const response = await fetch(`${issuer}/token`, {
  method: 'POST',
  headers: { authorization: `Basic ${btoa(`app:${client.client_secret}`)}` },
  body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: await token.save() }),
})
const { access_token, id_token } = await response.json()
const claims = JSON.parse(Buffer.from(id_token.split('.')[1], 'base64url').toString())
console.log(`the refreshed ID token has at_hash: ${'at_hash' in claims}`)
server.close()
process.exitCode = typeof access_token === 'string' && !('at_hash' in claims) ? 0 : 1
EOF
node try.mjs 2>/dev/null
