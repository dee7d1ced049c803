#!/bin/sh
# Package:   openid-client 6.9.0 (with oauth4webapi 3.8.8)
# Set-up:    A CIBA client waits with pollBackchannelAuthenticationGrant. The provider answers the first poll with an outage
#            that passes by itself, and would answer the second with authorization_pending: once with 503 and Retry-After,
#            once with 502, once with 429 and Retry-After.
# Guess:     CIBA Core §7.3 leaves the request open until it expires, so the loop that polls for it goes on after each.
# Behaviour: Only the 503 with Retry-After is waited out. Any other answer ends the loop by throwing, while the user may still be
#            about to approve; who wants to outlive a restarting proxy has to call again with the same auth_req_id.
# Output:    polls after 503 with Retry-After: 2, after 502: 1, after 429 with Retry-After: 1
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund openid-client@6.9.0 oauth4webapi@3.8.8 >/dev/null
cat > try.mjs <<'EOF'
import * as openid from 'openid-client'

const server = { issuer: 'http://localhost:9097', token_endpoint: 'http://localhost:9097/token' }
const config = new openid.Configuration(server, 'a-client', {}, openid.ClientSecretBasic('secret'))
openid.allowInsecureRequests(config)

async function pollsAfter(status, headers = {}) {
  let polls = 0
  const stop = new AbortController()
  config[openid.customFetch] = async () => {
    polls += 1
    if (polls === 1) return new Response('', { status, headers })
    stop.abort()
    return Response.json({ error: 'authorization_pending' }, { status: 400 })
  }
  const acknowledged = { auth_req_id: 'one', expires_in: 60, interval: 1 }
  await openid.pollBackchannelAuthenticationGrant(config, acknowledged, undefined, { signal: stop.signal }).catch(() => {})
  return polls
}

const retry = { 'retry-after': '1' }
const seen = [await pollsAfter(503, retry), await pollsAfter(502), await pollsAfter(429, retry)]
console.log(`polls after 503 with Retry-After: ${seen[0]}, after 502: ${seen[1]}, after 429 with Retry-After: ${seen[2]}`)
process.exitCode = seen.join() === '2,1,1' ? 0 : 1
EOF
node try.mjs
