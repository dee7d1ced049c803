/** Invalid requests: 400 invalid_request, without other members (fapi-ciba.md §3.2). */
import { exportJWK, importJWK, UnsecuredJWT } from 'jose'
import { newSecret } from '../../../src/platform/crypto.ts'
import { assertBackchannelError } from '../checks.ts'
import type { Modules } from '../plan.ts'
import type { Changes, Suite } from '../suite.ts'
import { callBack } from './happy-paths.ts'

const now = ({ stage }: Suite) => Math.floor(stage.clock.now() / 1000)
const missing = (claim: string) => () => ({ claims: { [claim]: undefined } })

const defects: Record<string, (suite: Suite) => Changes | Promise<Changes>> = {
  'missing-aud': missing('aud'),
  'bad-aud': () => ({ claims: { aud: 'https://www.other1.example.com/' } }),
  'missing-iss': missing('iss'),
  'bad-iss': ({ second }) => ({ claims: { iss: second.id } }),
  'missing-exp': missing('exp'),
  'expired-exp': (suite) => ({ claims: { exp: now(suite) - 3600 } }),
  'exp-is-70-minutes-in-future': (suite) => ({ claims: { exp: now(suite) + 4200 } }),
  'missing-iat': missing('iat'),
  'missing-nbf': missing('nbf'),
  'nbf-is-10-minutes-in-future': (suite) => ({ claims: { nbf: now(suite) + 600 } }),
  'nbf-is-70-minutes-in-past': (suite) => ({ claims: { nbf: now(suite) - 4200 } }),
  'missing-jti': missing('jti'),
  'signature-algorithm-is-RS256': async ({ first }) => ({ key: await asRs256(first.key), header: { alg: 'RS256' } }),
  'signed-by-other-client': ({ second }) => ({ key: second.key.privateKey }),
}

export const requestObjectNegatives: Modules = {
  ...Object.fromEntries(
    Object.entries(defects).map(([defect, changes]) => [
      `fapi-ciba-id1-ensure-request-object-${defect}-fails`,
      async (suite: Suite) => {
        const { claims, ...rest } = await changes(suite)
        const request = await suite.requestObject(suite.first, { claims: { ...callBack(suite), ...claims }, ...rest })
        await refused(suite, { request })
      },
    ]),
  ),

  'fapi-ciba-id1-ensure-request-object-signature-algorithm-is-none-fails': async (suite) => {
    const seconds = now(suite)
    const request = new UnsecuredJWT({ ...parameters(suite), jti: newSecret(15), nbf: seconds })
      .setIssuer(suite.first.id)
      .setAudience(String(suite.metadata.issuer))
      .setIssuedAt(seconds)
      .setExpirationTime(seconds + 300)
      .encode()
    await refused(suite, { request })
  },

  'fapi-ciba-id1-ensure-request-object-signature-algorithm-is-bad-fails': async (suite) => {
    const request = await suite.requestObject(suite.first, { claims: callBack(suite) })
    const [header, claims, signature] = request.split('.') as [string, string, string]
    const bytes = Buffer.from(Buffer.from(signature, 'base64url').map((byte) => byte ^ 0x5a))
    await refused(suite, { request: `${header}.${claims}.${bytes.toString('base64url')}` })
  },

  'fapi-ciba-id1-ensure-authorization-request-with-multiple-hints-fails': async (suite) => {
    const claims = { ...callBack(suite), login_hint_token: 'a.b.c', binding_message: undefined }
    await refused(suite, { request: await suite.requestObject(suite.first, { claims }) })
  },

  'fapi-ciba-id1-ensure-unsigned-backchannel-authorization-request-fails': async (suite) => {
    await refused(suite, parameters(suite))
  },
}

function parameters(suite: Suite): Record<string, string> {
  return { scope: 'openid', login_hint: 'ana@example.com', binding_message: '1234', ...callBack(suite) }
}

async function refused(suite: Suite, form: Record<string, string>): Promise<void> {
  assertBackchannelError(await suite.ring(suite.first, form), [400, 'invalid_request'])
}

/** Returns the client's RSA key for RS256. */
export async function asRs256({ privateKey }: Suite['first']['key']): Promise<Suite['first']['key']['privateKey']> {
  const { alg: _PS256, ...jwk } = await exportJWK(privateKey)
  return (await importJWK(jwk, 'RS256')) as Suite['first']['key']['privateKey']
}
