/**
 * The plan `fapi-ciba-id1-test-plan`: the modules of each variant. Each test is named after its module, and the number
 * of modules of each variant is checked, so that none is missing.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newSecret } from '../../src/platform/crypto.ts'
import { engines } from '../support/engines.ts'
import { mtlsOnly, privateKeyJwtOnly, tokenEndpointNegatives } from './modules/clients.ts'
import { happyPaths } from './modules/happy-paths.ts'
import { pingOnly } from './modules/ping.ts'
import { requestObjectNegatives } from './modules/request-object.ts'
import { openSuite, type Suite, type Variant } from './suite.ts'

/** The actions of the suite, by the module's name. */
export type Modules = Record<string, (suite: Suite) => Promise<void>>

const modulesIn = {
  'private_key_jwt poll': 35,
  'private_key_jwt ping': 40,
  'mtls poll': 33,
  'mtls ping': 38,
}

export function modulesOf({ clientAuthType, cibaMode }: Variant): Modules {
  const modules = {
    ...happyPaths,
    ...requestObjectNegatives,
    ...tokenEndpointNegatives,
    ...(clientAuthType === 'mtls' ? mtlsOnly : privateKeyJwtOnly),
    ...(cibaMode === 'ping' && pingOnly),
  }
  assert.equal(Object.keys(modules).length, modulesIn[`${clientAuthType} ${cibaMode}`])
  return modules
}

/** Static clients on SQLite, clients that register themselves on Postgres. */
export function runPlan(clientAuthType: Variant['clientAuthType']): void {
  for (const cibaMode of ['poll', 'ping'] as const) {
    for (const clientRegistration of ['static_client', 'dynamic_client'] as const) {
      const variant = { clientAuthType, cibaMode, clientRegistration }
      const named = `client_auth_type=${clientAuthType}][ciba_mode=${cibaMode}][client_registration=${clientRegistration}`
      describe(`fapi-ciba-id1-test-plan[${named}]`, () => {
        let suite: Suite
        const closings: (() => unknown)[] = []
        before(async () => {
          const engine = engines.find(
            ({ name }) => name === (clientRegistration === 'static_client' ? 'sqlite' : 'postgres'),
          )!
          suite = await openSuite({ after: (fn: () => unknown) => closings.unshift(fn) } as never, variant, engine)
        })
        after(async () => {
          for (const close of closings) await close()
        })
        for (const [name, run] of Object.entries(modulesOf(variant))) {
          test(name, async () => {
            suite.endpoint.heard.length = 0
            suite.waitSeconds(1)
            await run(suite)
          })
        }

        // Some modules end without a decision, and the suite runs them faster than their requests expire. All requests are
        // about one user.
        test('each module may leave a request open: the documented configuration accepts that many', async () => {
          for (const name of Object.keys(modulesOf(variant))) {
            const token = cibaMode === 'ping' ? { client_notification_token: newSecret(24) } : {}
            const request = await suite.requestObject(suite.first, { claims: { ...token, binding_message: '1234' } })
            const answer = await suite.ring(suite.first, { request })
            assert.equal(answer.status, 200, `${name}: ${answer.text}`)
          }
        })
      })
    }
  }
}
