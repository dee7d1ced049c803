/** Creates DPoP proofs, valid and invalid, and sends calls with them. */
import { request } from 'node:http'
import { type CryptoKey, calculateJwkThumbprint, type JWK, type JWTHeaderParameters, SignJWT } from 'jose'
import { newSecret } from '../../src/platform/crypto.ts'
import { newKey } from './assertions.ts'
import { type Answer, CIBA, type Stage } from './stage.ts'

export interface ProofKey {
  privateKey: CryptoKey
  jwk: JWK
  /** The JWK thumbprint of the public key (`jkt`). */
  thumbprint: string
}

export async function newProofKey(alg = 'ES256'): Promise<ProofKey> {
  const { privateKey, publicJwk } = await newKey('x', alg)
  const { kid: _, alg: __, ...jwk } = publicJwk as JWK
  return { privateKey, jwk, thumbprint: await calculateJwkThumbprint(jwk) }
}

export interface ProofOptions {
  header?: Record<string, unknown>
  /** Claims that are not listed have valid values for a token request. A claim that is `undefined` is omitted. */
  claims?: Record<string, unknown>
  signedWith?: CryptoKey | Uint8Array
}

export function proofOf(
  stage: Pick<Stage, 'url' | 'clock'>,
  key: ProofKey,
  { header, claims, signedWith }: ProofOptions = {},
): Promise<string> {
  const usual = {
    jti: newSecret(12),
    htm: 'POST',
    htu: `${stage.url}/oauth/token`,
    iat: Math.floor(stage.clock.now() / 1000),
  }
  return new SignJWT({ ...usual, ...claims })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk, ...header } as JWTHeaderParameters)
    .sign(signedWith ?? key.privateKey)
}

/** Sends headers unchanged. `fetch` would join repeated headers and change the case of names. */
export function callWith(
  stage: Pick<Stage, 'url'>,
  method: 'GET' | 'POST',
  path: string,
  headers: Record<string, string | string[] | undefined>,
  form: Record<string, string> = {},
): Promise<Answer> {
  const sent = Object.entries(headers).filter(([, value]) => value !== undefined)
  return new Promise((resolve, reject) => {
    const call = request(
      stage.url + path,
      { method, headers: { 'content-type': 'application/x-www-form-urlencoded', ...Object.fromEntries(sent) } },
      async (response) => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        const text = Buffer.concat(chunks).toString()
        const pairs = Object.entries(response.headers).map(([name, value]): [string, string] => [name, String(value)])
        resolve({ status: response.statusCode!, headers: new Headers(pairs), text, body: parse(text) })
      },
    )
    call.once('error', reject)
    call.end(method === 'POST' ? String(new URLSearchParams(form)) : undefined)
  })
}

export function pollWith(
  stage: Pick<Stage, 'url'>,
  proof: string | string[] | undefined,
  authReqId: unknown,
  authorization: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const form = { grant_type: CIBA, auth_req_id: String(authReqId) }
  return callWith(stage, 'POST', '/oauth/token', { dpop: proof, authorization, ...headers }, form)
}

function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}
