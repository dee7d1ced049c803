/** Types of authorization details, and clients that request them. */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { type Answer, credentials, type Stage, type StageOptions } from '../support/stage.ts'

export type Detail = { type: string; [field: string]: unknown }

export const amount = z.strictObject({ currency: z.string().length(3), value: z.string() })

/**
 * Three types. A payment is approved as a whole or not at all, accounts may be left out, and a limit may be lowered.
 */
export const types = {
  payment_initiation: {
    schema: z.strictObject({ amount, creditor: z.string(), locations: z.array(z.string()).exactOptional() }),
    describe: (detail: Detail, locale: string) => {
      const { currency, value } = detail.amount as z.output<typeof amount>
      return `${locale === 'de' ? 'Zahlung an' : 'Pay'} ${detail.creditor}: ${value} ${currency}`
    },
  },
  account_information: {
    schema: {
      type: 'object',
      properties: {
        actions: { type: 'array', items: { enum: ['read_balances', 'read_transactions'] } },
        accounts: { type: 'array', items: { type: 'string' }, minItems: 1 },
        since: { type: 'string' },
      },
      required: ['accounts'],
      additionalProperties: false,
    },
    describe: { en: ['See accounts {{accounts}}', 'Since {{since}}'], de: 'Konten ansehen: {{accounts}}' },
    narrow: ['actions', 'accounts'],
  },
  limit: {
    // This schema drops unknown fields, as schemas do by default.
    schema: z.object({ most: z.number(), nested: z.object({ a: z.number() }).exactOptional() }),
    describe: ({ most }: Detail) => `Up to ${most}`,
    narrow: (asked: Detail, approved: Detail) => Number(approved.most) <= Number(asked.most),
  },
}

export const payment: Detail = {
  type: 'payment_initiation',
  amount: { currency: 'EUR', value: '123.50' },
  creditor: 'Merchant <A> & Söhne',
}
export const accounts: Detail = {
  type: 'account_information',
  actions: ['read_balances', 'read_transactions'],
  accounts: ['DE40', 'DE75', 'DE91'],
  since: '2026-01-01',
}
export const limit: Detail = { type: 'limit', most: 500 }

export const withTypes = (options: StageOptions = {}): StageOptions => ({
  ...options,
  config: { ...options.config, authorizationDetails: { types } },
})

export const json = (...details: unknown[]) => ({ authorization_details: JSON.stringify(details) })

/** Sends a request with details. Returns the client's answer and the id of the request. */
export async function sendRequest(stage: Stage, details: Detail[], more: Record<string, string> = {}) {
  const { status, body, text } = await stage.ring('kiosk', { ...json(...details), ...more })
  assert.equal(status, 200, text)
  return { authReqId: body.auth_req_id, requestId: await stage.newestRequest() }
}

export const introspect = (stage: Stage, token: unknown) =>
  stage.post('/oauth/introspect', { token: String(token) }, credentials.kiosk)

export function refused({ status, body, text }: Answer, code: string, what?: string) {
  assert.deepEqual([status, body.error], [400, code], `${what}: ${text}`)
}
