/** Creates configurations, and returns the problems in a configuration. */
import assert from 'node:assert/strict'
import { checkConfig, type ValidationContext } from '../../src/config/check.ts'
import { newSecret } from '../../src/platform/crypto.ts'

export const production = { issuer: 'https://id.example.com', secret: newSecret() }

export function accepted(input: Record<string, unknown>, context?: ValidationContext) {
  const checked = checkConfig(input, context)
  if ('problems' in checked) assert.fail(checked.problems.join('\n'))
  return checked.config
}

export function problemsIn(input: Record<string, unknown>, context?: ValidationContext) {
  const checked = checkConfig(input, context)
  return 'problems' in checked ? checked.problems : []
}

/** Returns a configuration with one setting. @param path the dotted path of the setting */
export function setting(path: string, value: unknown): Record<string, unknown> {
  const nested = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value)
  return { ...production, ...(nested as Record<string, unknown>) }
}
