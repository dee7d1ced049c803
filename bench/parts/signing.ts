/**
 * Only signs ID tokens. The rate is the upper limit for any server that issues signed ID tokens. Signing uses the
 * library `jose`, as Doorbell and oidc-provider do. It signs as many tokens at the same time as the other workloads
 * have connections.
 */
import { generateKeyPair, SignJWT } from 'jose'
import { issuer } from '../cast.ts'
import { playPart } from '../part.ts'

export interface Signed {
  operations: number
  seconds: number
}

playPart(async () => {
  const keys = {
    ES256: (await generateKeyPair('ES256')).privateKey,
    RS256: (await generateKeyPair('RS256', { modulusLength: 2048 })).privateKey,
  }

  async function sign({ alg, seconds, atOnce }: { alg: keyof typeof keys; seconds: number; atOnce: number }) {
    let operations = 0
    const begin = performance.now()
    const end = begin + seconds * 1000
    async function signOn(): Promise<void> {
      while (performance.now() < end) {
        await new SignJWT({ sub: 'user-1', at_hash: 'ZXhhbXBsZS1oYXNoLW9m', auth_time: 1_790_000_000 })
          .setProtectedHeader({ alg, kid: 'bench', typ: 'JWT' })
          .setIssuer(issuer)
          .setAudience('till')
          .setIssuedAt()
          .setExpirationTime('1h')
          .sign(keys[alg])
        operations++
      }
    }
    await Promise.all(Array.from({ length: atOnce }, signOn))
    return { operations, seconds: (performance.now() - begin) / 1000 } satisfies Signed
  }

  return { port: 0, answers: { sign }, close: async () => {} }
})
