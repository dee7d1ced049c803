#!/bin/sh
# Package:   oidc-provider 9.13.3
# Set-up:    Introspection is on. A resource server may introspect tokens of other clients (`allowedPolicy`). A client has
#            an access token of a user; then the client is removed from the store that the adapter's `Client` model reads.
#            The token stays.
# Guess:     RFC 7662 §2.2: a token whose client is gone is not active, so the answer is 200 {"active":false}.
# Behaviour: The token is found, its client is looked up for the subject type without asking whether there is one, and the
#            answer is 500 server_error. Who removes a client has to remove its tokens too.
# Output:    introspection of a token whose client is gone: 500 server_error
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
cat > try.mjs <<'EOF'
console.info = () => {}
const { Provider } = await import('oidc-provider')

const stores = new Map()
class Memory {
  constructor(name) {
    if (!stores.has(name)) stores.set(name, new Map())
    this.store = stores.get(name)
  }
  async upsert(id, payload) { this.store.set(id, payload) }
  async find(id) { return this.store.get(id) }
  async findByUid(uid) { return [...this.store.values()].find((payload) => payload.uid === uid) }
  async findByUserCode() {}
  async consume() {}
  async destroy(id) { this.store.delete(id) }
  async revokeByGrantId() {}
}

const client = (client_id) => ({
  client_id,
  client_secret: `secret of ${client_id}, long enough for every purpose`,
  redirect_uris: [],
  response_types: [],
  grant_types: ['client_credentials'],
})
const issuer = 'http://localhost:9099'
new Memory('Client')
for (const id of ['machine', 'service']) stores.get('Client').set(id, client(id))
const provider = new Provider(issuer, {
  adapter: Memory,
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    devInteractions: { enabled: false },
  },
})
provider.on('server_error', () => {})
const server = provider.listen(9099)
const basic = (id) => `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(client(id).client_secret)}`).toString('base64')}`
const post = (path, id, form) =>
  fetch(issuer + path, {
    method: 'POST',
    headers: { authorization: basic(id), 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(form),
  })
const grant = new provider.Grant({ accountId: 'ana', clientId: 'machine' })
grant.addOIDCScope('openid')
const issued = { accountId: 'ana', client: await provider.Client.find('machine'), grantId: await grant.save(), scope: 'openid', gty: 'authorization_code' }
const token = await new provider.AccessToken(issued).save()
const before = await (await post('/token/introspection', 'service', { token })).json()
if (before.active !== true) throw new Error(`not active at first: ${JSON.stringify(before)}`)
stores.get('Client').delete('machine')
const after = await post('/token/introspection', 'service', { token })
const { error, active } = await after.json()
console.log(`introspection of a token whose client is gone: ${after.status} ${error ?? `active ${active}`}`)
server.close()
process.exitCode = after.status === 500 && error === 'server_error' ? 0 : 1
EOF
node try.mjs 2>/dev/null
