/**
 * The library oidc-provider with its own CIBA feature, configured as its documentation says. It has the same paths,
 * clients, lifetimes, key types and users as Doorbell, and logs nothing.
 *
 * A decision arrives at `/bench/approve` and is passed to `backchannelResult`. The caller of this path is not
 * authenticated. Doorbell has more work, because it authenticates the service that decides.
 */
import type { JsonWebKey } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair } from 'jose'
import { type Configuration, Provider } from 'oidc-provider'
import { authReqIdOf, clients, issuer, lives, paths, userOf } from '../cast.ts'
import { playPart } from '../part.ts'
import { openMemoryAdapters, openPostgresAdapters } from './plain-adapters.ts'

export interface OidcProviderSetup {
  /** `memory`, or the URL of a Postgres database. */
  store: string
  assertionKey: JsonWebKey
}

playPart(async ({ store, assertionKey }: OidcProviderSetup) => {
  const adapters = store === 'memory' ? openMemoryAdapters() : await openPostgresAdapters(store)
  const configuration: Configuration = {
    adapter: (model: string) => adapters.of(model),
    clients: clients(assertionKey).map((client) => ({ ...client, redirect_uris: [], response_types: [] })) as never,
    jwks: { keys: [await newKey('ES256'), await newKey('RS256')] as never },
    routes: { backchannel_authentication: paths.ring, token: paths.token },
    findAccount: async (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    features: {
      devInteractions: { enabled: false },
      ciba: {
        enabled: true,
        deliveryModes: ['poll'],
        processLoginHint: async (_ctx, hint) => hint,
        validateBindingMessage: async () => {},
        validateRequestContext: async () => {},
        verifyUserCode: async () => {},
        triggerAuthenticationDevice: async () => {},
      },
    },
    ttl: {
      BackchannelAuthenticationRequest: lives.request,
      AccessToken: lives.access,
      IdToken: lives.id,
      Grant: 14 * 24 * 3600,
    },
  }
  const provider = new Provider(issuer, configuration)
  provider.proxy = true
  // oidc-provider answers an internal error with 500, which the load generator reports as unexpected.
  const answer = provider.callback()

  async function approve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const form = new URLSearchParams(Buffer.concat(chunks).toString())
    const asked = await provider.BackchannelAuthenticationRequest.find(form.get('auth_req_id')!)
    const grant = new provider.Grant({ clientId: asked!.clientId!, accountId: asked!.accountId! })
    grant.addOIDCScope(asked!.scope!)
    await grant.save()
    await provider.backchannelResult(asked!, grant, { authTime: Math.floor(Date.now() / 1000) })
    const body = '{"status":"approved"}'
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
  }

  const server = createServer((request, response) => {
    if (request.url !== paths.approve) return answer(request, response)
    approve(request, response).catch((error: unknown) => {
      const text = String(error)
      response.writeHead(500, { 'content-length': Buffer.byteLength(text) }).end(text)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  /**
   * Adds pending requests whose ids are computed from numbers. The library saves one request; the others are copies of
   * it.
   */
  async function fill({ clientId, count }: { clientId: string; count: number }): Promise<void> {
    const request = new provider.BackchannelAuthenticationRequest({
      client: (await provider.Client.find(clientId))!,
      accountId: userOf(0),
      scope: 'openid',
      claims: {},
      params: { scope: 'openid', login_hint: userOf(0), binding_message: 'Coffee 4.20' },
    } as never)
    const id = await (request as unknown as { save(ttl: number): Promise<string> }).save(lives.request)
    for (let from = 0; from < count; from += 10_000) {
      const numbers = Array.from({ length: Math.min(10_000, count - from) }, (_, index) => from + index)
      await adapters.copy('BackchannelAuthenticationRequest', id, numbers.map(authReqIdOf))
    }
  }

  return {
    port: (server.address() as AddressInfo).port,
    answers: { fill },
    async close() {
      server.closeAllConnections()
      server.close()
      await adapters.close()
    },
  }
})

async function newKey(alg: 'ES256' | 'RS256') {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
  return { ...(await exportJWK(privateKey)), alg, use: 'sig', kid: alg }
}
