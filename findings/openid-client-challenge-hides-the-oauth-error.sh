#!/bin/sh
# Package:   openid-client 6.9.0 (with oauth4webapi 3.8.8)
# Set-up:    A client that authenticates by client_secret_basic asks for tokens. The token endpoint answers as RFC 6749 §5.2
#            says for a client that failed to authenticate by the Authorization header: 401, WWW-Authenticate: Basic, and the
#            error in the JSON body. Then the same body with 400 and no challenge.
# Guess:     Both are thrown as an OAuth error whose "error" member says invalid_client.
# Behaviour: The challenge wins: what is thrown for the 401 is about the header, has no "error", and leaves the body unread.
#            Who shows or compares the OAuth error has to read it from the response that hangs on what was thrown.
# Output:    401 with a challenge: WWWAuthenticateChallengeError, error undefined, body unread; 400: ResponseBodyError, error invalid_client
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund openid-client@6.9.0 oauth4webapi@3.8.8 >/dev/null
cat > try.mjs <<'EOF'
import * as openid from 'openid-client'

const server = { issuer: 'http://localhost:9097', token_endpoint: 'http://localhost:9097/token' }
const config = new openid.Configuration(server, 'a-client', {}, openid.ClientSecretBasic('wrong'))
openid.allowInsecureRequests(config)

async function thrownFor(status, headers) {
  config[openid.customFetch] = async () => Response.json({ error: 'invalid_client' }, { status, headers })
  try {
    await openid.genericGrantRequest(config, 'client_credentials', {})
  } catch (error) {
    return error
  }
}

const challenged = await thrownFor(401, { 'www-authenticate': 'Basic realm="tokens"' })
const isUnread = challenged.response?.bodyUsed === false
const plain = await thrownFor(400, {})
console.log(
  `401 with a challenge: ${challenged.name}, error ${challenged.error}, body ${isUnread ? 'unread' : 'read'}; 400: ${plain.name}, error ${plain.error}`,
)
process.exitCode = challenged.error === undefined && isUnread && plain.error === 'invalid_client' ? 0 : 1
EOF
node try.mjs
