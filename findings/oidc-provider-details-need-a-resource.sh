#!/bin/sh
# Package:   oidc-provider 9.13.3
# Set-up:    Rich authorization requests and resource indicators are on. A refresh token has authorization details, and no
#            resource. The client refreshes with `authorization_details`, for a part of what was granted.
# Guess:     RFC 9396 §6: the access token is for this part. RFC 9396 does not require a `resource` (RFC 8707).
# Behaviour: The answer is 400 invalid_target, unless the request has a `resource` that the grant has too, or
#            `defaultResource` returns one. Who has no resource servers cannot let clients narrow their details.
# Output:    a refresh for some details without a resource: 400 invalid_target
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund oidc-provider@9.13.3 >/dev/null
cat > try.mjs <<'EOF'
console.info = () => {}
const { Provider } = await import('oidc-provider')

const issuer = 'http://localhost:9099'
const secret = 'secret of the till, long enough for every purpose'
const details = [{ type: 'payment', to: 'a' }, { type: 'payment', to: 'b' }]
const provider = new Provider(issuer, {
  clients: [{ client_id: 'till', client_secret: secret, authorization_details_types: ['payment'], redirect_uris: ['https://till.example/cb'], grant_types: ['authorization_code', 'refresh_token'] }],
  findAccount: async (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  scopes: ['openid', 'offline_access'],
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, defaultResource: () => undefined },
    richAuthorizationRequests: {
      enabled: true,
      types: { payment: { validate: () => {} } },
      authorizationDetailsForGrantSource: (_ctx, source) => source.rar,
      authorizationDetailsForAccessToken: (ctx, _token, source) =>
        ctx.oidc.params.authorization_details ? JSON.parse(ctx.oidc.params.authorization_details) : source.rar,
      authorizationDetailsForIntrospection: (_ctx, token) => token.rar,
    },
  },
})
provider.on('server_error', (_ctx, error) => console.error(error))
const server = provider.listen(9099)
const grant = new provider.Grant({ accountId: 'ana', clientId: 'till' })
grant.addOIDCScope('openid offline_access')
const client = await provider.Client.find('till')
const issued = { accountId: 'ana', client, grantId: await grant.save(), scope: 'openid offline_access', gty: 'authorization_code', rar: details }
const refresh_token = await new provider.RefreshToken(issued).save()
const refresh = (more) =>
  fetch(`${issuer}/token`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`till:${encodeURIComponent(secret)}`).toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token, ...more }),
  })
const all = await refresh({})
if (all.status !== 200) throw new Error(`not refreshed at first: ${await all.text()}`)
const some = await refresh({ authorization_details: JSON.stringify(details.slice(1)) })
const { error } = await some.json()
console.log(`a refresh for some details without a resource: ${some.status} ${error ?? ''}`.trim())
server.close()
process.exitCode = some.status === 400 && error === 'invalid_target' ? 0 : 1
EOF
node try.mjs 2>/dev/null
