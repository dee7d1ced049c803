/** Signs tokens again if their signing key was revoked before the client got the tokens. */
import { CompactSign, decodeProtectedHeader, importJWK, type JWK } from 'jose'
import type { SigningKeys } from '../../openid-provider/signing-keys/signing-keys.ts'
import { tokenHash } from '../../platform/jose/token-hash.ts'
import type { TokenResponse } from './issue-tokens.ts'

/**
 * Resolves to the tokens, signed with a published key, or to undefined if no token has to be signed again. The claims
 * stay the same, with one exception: if a JWT access token is signed again, `at_hash` changes. Opaque and encrypted
 * tokens stay as they are.
 */
export async function signAgain<Tokens extends Pick<TokenResponse, 'access_token' | 'id_token'>>(
  tokens: Tokens,
  keys: SigningKeys,
): Promise<Tokens | undefined> {
  const [access, id] = [readSigned(tokens.access_token), readSigned(tokens.id_token)]
  const isLost = (token: SignedToken | undefined) => token !== undefined && !isPublished(token, keys)
  if (!isLost(access) && !isLost(id)) return undefined

  const accessToken = isLost(access) ? await sign(access!, keys) : tokens.access_token
  if (id === undefined) return { ...tokens, access_token: accessToken }
  const claims = JSON.parse(id.payload.toString('utf8')) as Record<string, unknown>
  const hash = 'at_hash' in claims && { at_hash: tokenHash(accessToken, id.header.alg) }
  const payload = Buffer.from(JSON.stringify({ ...claims, ...hash }))
  return { ...tokens, access_token: accessToken, id_token: await sign({ ...id, payload }, keys) }
}

interface SignedToken {
  header: { alg: string; kid: string; typ?: string }
  payload: Buffer
}

/** Returns the header and payload of a signed JWT, or undefined for an opaque or encrypted token. */
function readSigned(token: string): SignedToken | undefined {
  const parts = token.split('.')
  if (parts.length !== 3) return undefined
  const { alg, kid, typ } = decodeProtectedHeader(token)
  if (alg === undefined || kid === undefined) return undefined
  return { header: { alg, kid, ...(typ !== undefined && { typ }) }, payload: Buffer.from(parts[1]!, 'base64url') }
}

const isPublished = ({ header }: SignedToken, { published }: SigningKeys) =>
  published.some(({ kid }) => kid === header.kid)

async function sign({ header, payload }: SignedToken, keys: SigningKeys): Promise<string> {
  // Among the keys of one type, the first is the key that signs new tokens.
  const key = keys.private.find(({ kty }) => kty === keyTypeOf(header.alg)) as JWK
  return new CompactSign(payload)
    .setProtectedHeader({ ...header, kid: key.kid! })
    .sign(await importJWK(key, header.alg))
}

const keyTypeOf = (algorithm: string) => (algorithm.startsWith('ES') ? 'EC' : 'RSA')
