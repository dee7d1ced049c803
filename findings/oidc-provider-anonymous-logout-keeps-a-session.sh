#!/bin/sh
# Package:   oidc-provider 9.13.3
# Set-up:    rpInitiatedLogout is on, as it is unless told otherwise. An adapter counts what it is asked to keep. A visitor
#            without any cookie opens the end-session address ten times, each time without cookies.
# Guess:     Nobody is signed in, so there is no session and nothing to keep.
# Behaviour: The confirmation page's form is bound to a session, so each visit makes one and stores it, for as long as a
#            signed-in user's. Who runs it has to give sessions without a user a short life, or to keep none.
# Output:    sessions kept for ten visits of nobody: 10, each for 1209600 seconds
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
cat > try.mjs <<'EOF'
console.info = () => {}
const { Provider } = await import('oidc-provider')

const kept = []
class Counting {
  constructor(name) { this.name = name }
  async upsert(id, payload, expiresIn) { kept.push({ model: this.name, id, expiresIn, accountId: payload.accountId }) }
  async find() {}
  async findByUid() {}
  async findByUserCode() {}
  async consume() {}
  async destroy() {}
  async revokeByGrantId() {}
}

const issuer = 'http://localhost:9098'
const provider = new Provider(issuer, { adapter: Counting, cookies: { keys: ['a key that signs cookies'] } })
const server = provider.listen(9098)
for (let visit = 0; visit < 10; visit++) {
  const { status } = await fetch(`${issuer}/session/end`)
  if (status !== 200) throw new Error(`the page was answered ${status}`)
}
server.close()
const sessions = kept.filter(({ model }) => model === 'Session')
const different = new Set(sessions.map(({ id }) => id)).size
const lives = [...new Set(sessions.map(({ expiresIn }) => expiresIn))]
const anonymous = sessions.every(({ accountId }) => accountId === undefined)
console.log(`sessions kept for ten visits of nobody: ${different}, each for ${lives.join(' or ')} seconds`)
process.exitCode = different === 10 && anonymous && lives.length === 1 && lives[0] >= 86_400 ? 0 : 1
EOF
node try.mjs 2>/dev/null
