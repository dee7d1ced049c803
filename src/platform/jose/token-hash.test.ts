import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { tokenHash } from './token-hash.ts'

describe('the hash of a token (CIBA §10.3.1, OpenID Connect §3.1.3.6)', () => {
  for (const [token, hash] of [
    ['G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN', 'Wt0kVFXMacqvnHeyU0001w'],
    ['4bwc0ESC_IAhflf-ACC_vjD_ltc11ne-8gFPfA2Kx16', 'sHahCuSpXCRg5mkDDvvr4w'],
  ] as const) {
    test(`of the standard's example ${hash}`, () => {
      for (const algorithm of ['RS256', 'PS256', 'ES256', 'HS256']) assert.equal(tokenHash(token, algorithm), hash)
    })
  }

  for (const [algorithms, bytes] of [
    [['RS256', 'PS256', 'ES256', 'HS256'], 16],
    [['RS384', 'PS384', 'ES384', 'HS384'], 24],
    [['RS512', 'PS512', 'ES512', 'HS512', 'EdDSA', 'Ed25519'], 32],
  ] as const) {
    test(`keeps ${bytes} bytes for ${algorithms.join(', ')} (OpenID Connect §3.1.3.6)`, () => {
      for (const algorithm of algorithms) {
        assert.equal(Buffer.from(tokenHash('token', algorithm), 'base64url').length, bytes)
        assert.equal(tokenHash('token', algorithm), tokenHash('token', algorithms[0]))
      }
    })
  }
})
