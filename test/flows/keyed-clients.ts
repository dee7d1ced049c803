/** Clients that authenticate with keys at every endpoint, and the address at which they publish these keys. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { SignJWT } from 'jose'
import type { ClientMetadataInput } from '../../src/client/metadata/client-metadata.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import {
  type AssertionOptions,
  asserted,
  assertionOf,
  cibaEndpoints,
  isBelieved,
  type KeyHolder,
  pollClient,
} from '../support/assertions.ts'
import { type Answer, CIBA, type Stage } from '../support/stage.ts'

export const signs: Partial<ClientMetadataInput> = {
  token_endpoint_auth_method: 'private_key_jwt',
  grant_types: [CIBA, 'refresh_token'],
}
export const secret = newSecret()

/** Switches off limits, for servers at which clients call every endpoint repeatedly. */
export const unlimited = { perUser: { perMinute: 0 }, perClientAndUser: { open: 0, perMinute: 0 } }

/** All endpoints at which a client can authenticate. Each form names a request or a token that does not exist. */
export const everywhere = [
  ...cibaEndpoints,
  { path: '/oauth/introspect', form: { token: 'unknown' } },
  { path: '/oauth/revoke', form: { token: 'unknown' } },
  { path: '/oauth/token', form: { grant_type: 'refresh_token', refresh_token: 'unknown' } },
] as const

export async function answersTo(stage: Stage, client: string, options: AssertionOptions): Promise<Answer[]> {
  const answers: Answer[] = []
  for (const { path, form } of everywhere) {
    answers.push(await stage.post(path, { ...form, ...asserted(await assertionOf(stage, client, options)) }))
  }
  return answers
}

export async function assertBelievedEverywhere(stage: Stage, client: string, options: AssertionOptions): Promise<void> {
  for (const answer of await answersTo(stage, client, options)) assert.ok(isBelieved(answer), answer.text)
}

export async function assertRefusedEverywhere(stage: Stage, client: string, options: AssertionOptions): Promise<void> {
  for (const { status, body } of await answersTo(stage, client, options)) {
    assert.deepEqual([status, body.error], [401, 'invalid_client'])
  }
}

export function signing(keys: Pick<ClientMetadataInput, 'jwks' | 'jwks_uri'>): ClientMetadataInput {
  return pollClient('signing', {
    client_secret: secret,
    backchannel_authentication_request_signing_alg: 'ES256',
    ...keys,
  })
}

export function hintToken(stage: Stage, issuer: string, { privateKey }: KeyHolder): Promise<string> {
  const now = Math.floor(stage.clock.now() / 1000)
  return new SignJWT({ iss: issuer, aud: stage.url, sub: 'user-ana', iat: now, exp: now + 60 })
    .setProtectedHeader({ alg: 'ES256' })
    .sign(privateKey)
}

export type KeyServer = Awaited<ReturnType<typeof openKeyServer>>

export async function openKeyServer(t: TestContext) {
  let answer: (response: ServerResponse) => void = (response) => response.destroy()
  let asked = 0
  const server = createServer((_request, response) => {
    asked += 1
    answer(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://localhost:${port}/keys`,
    asked: () => asked,
    publish(jwks: object) {
      answer = (response) => response.end(JSON.stringify(jwks))
    },
    fail(how: (response: ServerResponse) => void) {
      answer = how
    },
    /** Connections are refused until `listen`. */
    async refuse() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
    async listen() {
      if (server.listening) return
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
    },
  }
}
