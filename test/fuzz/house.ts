/** A server with everything enabled, and the credentials that an attacker with inside knowledge could have. */
import { createHash, generateKeyPairSync, type KeyObject, type webcrypto } from 'node:crypto'
import type { ConfigInput } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createDoorbell, type Doorbell } from '../../src/doorbell.ts'
import { newSecret } from '../../src/platform/crypto.ts'
import type { KnownRoute } from '../../src/platform/http/mount.ts'
import { createLog } from '../../src/platform/log.ts'
import { certify } from '../support/certificates.ts'
import { createStageClock, type StageClock } from '../support/clock.ts'
import { type Engine, engines } from '../support/engines.ts'
import { signIn } from '../support/phone-app.ts'
import { freePort } from '../support/ports.ts'
import { routesOf } from '../support/routes.ts'
import { ana, ben, CIBA, castConfig, cheapCost, type Stage, secrets } from '../support/stage.ts'
import { formTokenOn, openVisitor } from '../support/visitor.ts'

export interface House {
  doorbell: Doorbell
  url: string
  port: number
  clock: StageClock
  routes: readonly KnownRoute[]
  /** Returns the lines logged since the last call. */
  takeLog(): string[]
  /** Values that must never be in the log. */
  secrets: string[]
  keys: Record<KeyName, KeyObject>
  proofJwk: webcrypto.JsonWebKey
  proofThumbprint: string
  /** PEM, as a proxy passes it on. */
  certificate: string
  /** The access token of a user who has signed in. */
  userToken: string
  sessionCookie: string
  formToken: string
  /**
   * Signs in again if a request has ended the session or the token: otherwise later requests would only be
   * unauthorized.
   */
  staySignedIn(): Promise<void>
  close(): Promise<void>
}

export type KeyName = 'signer' | 'unregistered' | 'proof'

/** The number of consecutive sign-ins that may be refused by coincidence. */
const mostRefused = 10

const ec = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })

export async function openHouse(engineName: Engine['name'] = 'sqlite'): Promise<House> {
  const engine = engines.find(({ name }) => name === engineName)!
  const { url: database, drop } = await engine.fresh({ mayHaveTables: true })
  const port = await freePort()
  const [signer, unregistered, proof] = [ec(), ec(), ec()]
  const authority = await certify({ subject: 'CN=Fuzz authority', isAuthority: true })
  const { cert } = await certify({ subject: 'CN=vault', by: authority })
  const userCode = newSecret(9)
  const metricsToken = newSecret()
  const config = await loadConfig({
    env: {},
    demo: true,
    overrides: everythingOn(castConfig(port, database), {
      signer: { ...signer.publicKey.export({ format: 'jwk' }), kid: 'signer', alg: 'ES256' },
      userCode,
      metricsToken,
      clientCa: authority.cert,
    }),
  })
  let lines: string[] = []
  const clock = createStageClock()
  const log = createLog('debug', { write: (line) => void lines.push(line) })
  const doorbell = await createDoorbell(config, { clock, log, migrate: true, passwords: { cost: cheapCost } })
  await doorbell.listen()
  const url = `http://localhost:${port}`
  const stage = { url, clock } as Stage
  const proofJwk = proof.publicKey.export({ format: 'jwk' }) as webcrypto.JsonWebKey

  const house: House = {
    doorbell,
    url,
    port,
    clock,
    routes: await routesOf({ doorbell }),
    takeLog() {
      const taken = lines
      lines = []
      return taken
    },
    secrets: [...Object.values(secrets), ana.password, ben.password, userCode, metricsToken, config.secret],
    keys: { signer: signer.privateKey, unregistered: unregistered.privateKey, proof: proof.privateKey },
    proofJwk,
    proofThumbprint: thumbprint(proofJwk),
    certificate: cert,
    userToken: '',
    sessionCookie: '',
    formToken: '',
    async staySignedIn() {
      try {
        await staySignedIn()
        refused = 0
      } catch (error) {
        // Meanwhile another request may have ended all of Ana's sessions, this one included; then the next attempt
        // signs in.
        refused += 1
        if (refused >= mostRefused) throw error
      }
    },
    async close() {
      await doorbell.close()
      await drop()
    },
  }
  let refused = 0
  async function staySignedIn(): Promise<void> {
    const isGood = async (path: string, headers: Record<string, string>) =>
      (await fetch(url + path, { headers, redirect: 'manual' })).status === 200
    if (!(await isGood('/backchannel/authinfo', { authorization: `Bearer ${house.userToken}` }))) {
      house.userToken = (await signIn(stage)).access_token
      house.secrets.push(house.userToken)
    }
    if (await isGood('/activity', { cookie: house.sessionCookie })) return
    // From another address, so that failed attempts of other requests do not count against it.
    const visitor = openVisitor(url, url, { 'x-forwarded-for': '203.0.113.9' })
    house.formToken = formTokenOn(await visitor.signIn(ana, '/activity'))
    house.sessionCookie = [...visitor.jar].map(([name, value]) => `${name}=${value}`).join('; ')
  }

  await staySignedIn()
  return house
}

interface Held {
  signer: object
  userCode: string
  metricsToken: string
  clientCa: string
}

/** Limits are disabled, so that requests reach the code behind them. */
function everythingOn(cast: ConfigInput, { signer, userCode, metricsToken, clientCa }: Held): ConfigInput {
  const poll = { grant_types: [CIBA, 'refresh_token'], backchannel_token_delivery_mode: 'poll' as const }
  const jwks = { keys: [signer] } as never
  return {
    ...cast,
    proxy: { trust: ['127.0.0.1', '::1'], clientCertificateHeader: 'x-client-cert', clientCa },
    requests: { maxOpenPerUser: 20, numberMatching: true },
    notifications: { timeout: 1, attempts: 1 },
    registration: { mode: 'open', perHour: 100_000 },
    limits: {
      signIn: { perName: 1000, perAddress: 100_000, perNetwork: 1_000_000, openPerNetwork: 100_000, pause: 1 },
    },
    metrics: { token: metricsToken },
    hints: { tokenIssuers: [{ issuer: 'https://finder.example', jwks }] },
    webPush: { subject: 'mailto:ops@example.com' },
    resources: { 'https://api.example.com': {} },
    authorizationDetails: {
      types: {
        payment: {
          schema: {
            type: 'object',
            properties: { amount: { type: 'number' }, to: { type: 'string' } },
            required: ['amount'],
          },
          describe: { en: 'Pay {{amount}}' },
        },
      },
    },
    users: [ana, { ...ben, user_code: userCode }],
    clients: [
      ...(cast.clients ?? []),
      {
        ...poll,
        client_id: 'signer',
        token_endpoint_auth_method: 'private_key_jwt',
        jwks,
        backchannel_authentication_request_signing_alg: 'ES256',
      },
      { ...poll, client_id: 'asserter', token_endpoint_auth_method: 'private_key_jwt', jwks },
      { ...poll, client_id: 'booth', client_secret: secrets.kiosk, backchannel_user_code_parameter: true },
      { ...poll, client_id: 'wallet', client_secret: secrets.kiosk, dpop_bound_access_tokens: true },
      {
        ...poll,
        client_id: 'vault',
        token_endpoint_auth_method: 'tls_client_auth',
        tls_client_auth_subject_dn: 'CN=vault',
      },
    ],
  }
}

/** Returns the thumbprint (RFC 7638) of an elliptic-curve key. */
function thumbprint({ crv, kty, x, y }: webcrypto.JsonWebKey): string {
  return createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url')
}
