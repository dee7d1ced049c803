/** Tokens that are bound to a key by DPoP: without a proof they are refused. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { exportJWK, type JWK } from 'jose'
import * as openid from 'openid-client'
import { discover, refusalOf } from '../support/foreign-client.ts'
import { signIn } from '../support/phone-app.ts'
import { callWith, newProofKey, type ProofKey, type ProofOptions, pollWith, proofOf } from '../support/proofs.ts'
import { ana, credentials, type Stage } from '../support/stage.ts'
import { approved, assertRefused, asWallet, ath, catchUp, openDpopStage, sendRequest } from './dpop-clients.ts'

let stage: Stage
let close = () => {}
let key: ProofKey

before(async () => {
  key = await newProofKey()
  stage = await openDpopStage({ after: (fn: () => void) => (close = fn) } as never)
})
after(() => close())

const proof = (options: ProofOptions = {}) => proofOf(stage, key, options)

describe('a bound token', () => {
  const bound = async (as = key) => {
    const made = await proofOf(stage, as)
    const { status, body, text } = await pollWith(stage, made, await approved(stage), asWallet)
    assert.equal(status, 200, text)
    assert.equal(body.token_type, 'DPoP')
    return body
  }
  const at = (path: string, method: 'GET' | 'POST', token: unknown, options: { as?: ProofKey; claims?: object } = {}) =>
    proofOf(stage, options.as ?? key, {
      claims: { htm: method, htu: stage.url + path, ath: ath(token), ...options.claims },
    })

  test('is refused at userinfo without a proof, or with a wrong one (DP-15)', async () => {
    const { access_token: token } = await bound()
    const path = '/oauth/userinfo'
    const look = async (scheme: string, dpop: string | undefined) =>
      callWith(stage, 'GET', path, { authorization: `${scheme} ${token}`, dpop })
    assert.equal((await look('DPoP', await at(path, 'GET', token))).status, 200)
    const asBearer = await look('Bearer', undefined)
    assertRefused(asBearer, 'invalid_token', 401)
    assert.match(String(asBearer.headers.get('www-authenticate')), /^DPoP /)
    for (const [error, dpop] of [
      ['invalid_dpop_proof', await at(path, 'GET', token, { claims: { ath: undefined } })],
      ['invalid_dpop_proof', await at(path, 'GET', 'another')],
      ['invalid_dpop_proof', await at('/oauth/token', 'GET', token)],
      ['invalid_dpop_proof', await at(path, 'POST', token)],
      ['invalid_dpop_proof', 'x'],
      ['invalid_token', await at(path, 'GET', token, { as: await newProofKey() })],
    ] as const) {
      const answer = await look('DPoP', dpop)
      assertRefused(answer, error, 401)
      assert.match(String(answer.headers.get('www-authenticate')), new RegExp(`^DPoP .*error="${error}".*algs="ES256 `))
    }
    assert.ok((await look('DPoP', undefined)).status >= 400)
    assert.ok((await look('Bearer', await at(path, 'GET', token))).status >= 400)
  })

  test('is issued to a client that sends a proof without having registered for it (DP-14)', async () => {
    const asKiosk = credentials.kiosk
    const { body } = await pollWith(stage, await proof(), await approved(stage, asKiosk), asKiosk)
    assert.equal(body.token_type, 'DPoP')
    const unbound = await pollWith(stage, undefined, await approved(stage, asKiosk), asKiosk)
    assert.equal(unbound.body.token_type, 'Bearer')
    const { access_token: token } = unbound.body
    const headers = { authorization: `DPoP ${token}`, dpop: await at('/oauth/userinfo', 'GET', token) }
    assertRefused(await callWith(stage, 'GET', '/oauth/userinfo', headers), 'invalid_token', 401)
  })
})

describe('a public client', () => {
  const scope = 'openid ciba:decide offline_access'

  test('keeps its key: its refresh token is bound to it, and so is its token for decisions (RFC 9449 §5)', async () => {
    catchUp(stage)
    const keys = await openid.randomDPoPKeyPair('ES256')
    const tokens = await signIn(stage, ana, { scope, prompt: 'consent' }, { id: 'pocket-app', dpopKeys: keys })
    assert.equal(tokens.token_type, 'dpop')
    const app = await discover(stage, 'pocket-app', openid.None())
    const other = openid.getDPoPHandle(app, await openid.randomDPoPKeyPair('ES256'))
    catchUp(stage)
    const stolen = await refusalOf(openid.refreshTokenGrant(app, tokens.refresh_token!, undefined, { DPoP: other }))
    assert.deepEqual(stolen, { error: 'invalid_grant', status: 400 })
    const without = await refusalOf(openid.refreshTokenGrant(app, tokens.refresh_token!))
    assert.deepEqual(without, { error: 'invalid_dpop_proof', status: 400 })
    const DPoP = openid.getDPoPHandle(app, keys)
    const fresh = await openid.refreshTokenGrant(app, tokens.refresh_token!, undefined, { DPoP })
    assert.equal(fresh.token_type, 'dpop')
  })

  test('decides only with a proof for exactly this address', async () => {
    catchUp(stage)
    const keys = await openid.randomDPoPKeyPair('ES256', { extractable: true })
    const { access_token: token } = await signIn(stage, ana, {}, { id: 'pocket-app', dpopKeys: keys })
    const own: ProofKey = { ...key, privateKey: keys.privateKey, jwk: (await exportJWK(keys.publicKey)) as JWK }
    const made = (path: string, method: string, claims = {}, as = own) =>
      proofOf(stage, as, { claims: { htm: method, htu: stage.url + path, ath: ath(token), ...claims } })
    await sendRequest(stage)
    const request_id = await stage.newestRequest()
    const calls: ['GET' | 'POST', string, Record<string, string>][] = [
      ['GET', '/backchannel/authinfo', {}],
      ['POST', '/backchannel/authinfo', {}],
      ['GET', '/backchannel/activity', {}],
      ['GET', '/backchannel/passkeys', {}],
      ['POST', '/backchannel/complete', { request_id, status: 'denied' }],
    ]
    for (const [method, path, form] of calls) {
      const send = (dpop: string | string[] | undefined, scheme = 'DPoP') =>
        callWith(stage, method, path, { authorization: `${scheme} ${token}`, dpop }, form)
      const good = await made(path, method)
      for (const [error, answer] of [
        ['invalid_token', await send(undefined, 'Bearer')],
        ['invalid_token', await send(good, 'Bearer')],
        ['invalid_dpop_proof', await send(undefined)],
        ['invalid_dpop_proof', await send([good, good])],
        ['invalid_dpop_proof', await send(await made(path, method, { ath: undefined }))],
        ['invalid_dpop_proof', await send(await made(path, method, { ath: ath('another') }))],
        ['invalid_dpop_proof', await send(await made('/backchannel/elsewhere', method))],
        ['invalid_dpop_proof', await send(await made(path, method === 'GET' ? 'POST' : 'GET'))],
        ['invalid_token', await send(await made(path, method, {}, key))],
      ] as const) {
        assertRefused(answer, error, 401, `${method} ${path}: ${answer.text}`)
        assert.match(String(answer.headers.get('www-authenticate')), new RegExp(`^DPoP .*error="${error}".*algs="`))
      }
      const answer = await send(good)
      assert.equal(answer.status, 200, answer.text)
      assertRefused(await send(good), 'invalid_dpop_proof', 401, 'a second time')
    }
    assert.equal((await stage.waiting())[0]!.status, 'denied')

    const unbound = await signIn(stage)
    const dpop = await made('/backchannel/authinfo', 'GET', { ath: ath(unbound.access_token) })
    const headers = { authorization: `DPoP ${unbound.access_token}`, dpop }
    assertRefused(await callWith(stage, 'GET', '/backchannel/authinfo', headers), 'invalid_token', 401)
  })
})
