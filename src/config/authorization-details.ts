/** The settings `authorizationDetails` (RFC 9396) and `resources` (RFC 8707). */
import { z } from 'zod'
import { describeWith } from '../authorization-details/detail-template.ts'
import type { DetailSchema, DetailType, IsSubset } from '../authorization-details/detail-types.ts'
import { isResourceAddress, type Resources } from '../authorization-details/resources.ts'
import { expectation, isPlain, readSettings } from '../platform/validation.ts'
import type { DetailTypeInput } from './settings/tokens.ts'

const languageTag = /^[a-z]{2}(-[A-Z]{2})?$/
const schemaForm = 'a schema of zod, or a JSON Schema of an object'
const describeForm = 'a function, or texts by language, like { en: "Pay {{amount}}" }'
const narrowForm = 'a list of names of fields, or a function'

const isLine = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)])
const isTexts = z.record(z.string().regex(languageTag), isLine).refine((texts) => Object.keys(texts).length > 0)

const typeSchema = z.strictObject({
  schema: z.custom<DetailTypeInput['schema']>((value) => isSchema(value) || isPlain(value), expectation(schemaForm)),
  describe: z.custom<DetailTypeInput['describe']>(
    (value) => typeof value === 'function' || isTexts.safeParse(value).success,
    expectation(describeForm),
  ),
  narrow: z
    .custom<readonly string[] | IsSubset>(
      (value) => typeof value === 'function' || z.array(z.string().min(1)).min(1).safeParse(value).success,
      expectation(narrowForm),
    )
    .exactOptional(),
})

/** Reads the setting `authorizationDetails.types`. Each problem begins with the name of the setting. */
export function readDetailTypes(input: unknown): { types: Record<string, DetailType>; problems: string[] } {
  const place = 'authorizationDetails.types'
  if (!isPlain(input)) return { types: {}, problems: [`${place} must be an object of types by their name`] }
  const problems: string[] = []
  const types: [string, DetailType][] = []
  for (const [name, given] of Object.entries(input)) {
    const read = readType(name, given)
    if (Array.isArray(read)) problems.push(...read.map((problem) => `${place}.${name}${problem}`))
    else types.push([name, read])
  }
  return { types: Object.fromEntries(types), problems }
}

function readType(name: string, given: unknown): DetailType | string[] {
  if (!isPlain(given)) return [' must be an object with schema and describe']
  if (!/^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/.test(name)) return [' must have a name of printable ASCII without spaces']
  const settings = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const read = typeSchema.safeParse(settings)
  if (!read.success) {
    return read.error.issues.flatMap((issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => `.${key} is not a setting`)
        : [`.${issue.path.join('.')} ${issue.message}`],
    )
  }
  const { schema, describe, narrow } = read.data
  const checked = isSchema(schema) ? schema : fromJsonSchema(schema)
  if (typeof checked === 'string') return [`.schema ${checked}`]
  if (namesType(schema)) return ['.schema must not contain "type": it is the name of the type itself']
  return {
    schema: checked,
    describe: typeof describe === 'function' ? describe : describeWith(describe),
    ...(narrow !== undefined && { narrow }),
  }
}

function isSchema(value: unknown): value is DetailSchema {
  return typeof value === 'object' && value !== null && 'safeParse' in value && typeof value.safeParse === 'function'
}

/** Converts a JSON Schema. Returns the schema, or a description of what is wrong with it. */
function fromJsonSchema(schema: Record<string, unknown>): DetailSchema | string {
  if (schema.type !== 'object') return 'must be a JSON Schema with "type": "object"'
  try {
    return z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0])
  } catch (error) {
    return `is not a valid JSON Schema: ${(error as Error).message}`
  }
}

function namesType(schema: object): boolean {
  const fields = 'shape' in schema ? schema.shape : 'properties' in schema ? schema.properties : undefined
  return typeof fields === 'object' && fields !== null && 'type' in fields
}

const resourceSchema = z.strictObject({
  scopes: z.array(z.string(expectation('a scope')), expectation('a list of scopes')).exactOptional(),
  audience: z.string(expectation('a string')).min(1, expectation('a string')).exactOptional(),
  accessTokenFormat: z.enum(['opaque', 'jwt'], expectation('"opaque" or "jwt"')).exactOptional(),
  accessTtl: z
    .int(expectation('a whole number of seconds'))
    .min(1, expectation('at least 1 second'))
    .max(365 * 86_400, expectation('at most a year, in seconds'))
    .exactOptional(),
})

/**
 * Reads the setting `resources`.
 *
 * @param scopes the scopes of the server; if undefined, the scopes of the resources are not checked
 */
export function readResources(
  input: unknown,
  scopes: readonly string[] | undefined,
): { resources: Resources; problems: string[] } {
  if (!isPlain(input)) return { resources: {}, problems: ['resources must be an object of resources by address'] }
  const read = Object.entries(input).map(([address, given]) => {
    const place = `resources["${address.slice(0, 80)}"]`
    if (!isResourceAddress(address)) return { problems: [`${place} must be an absolute URI without a fragment`] }
    if (!isPlain(given)) return { problems: [`${place} must be an object of settings`] }
    const settings = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
    const { value, problems } = readSettings(resourceSchema, settings)
    const strange = value.scopes?.find((scope) => scopes?.includes(scope) === false)
    if (strange !== undefined) problems.push(`scopes contains "${strange}", which is not in tokens.scopes`)
    return { entry: [address, value] as const, problems: problems.map((problem) => `${place}.${problem}`) }
  })
  return {
    resources: Object.fromEntries(read.flatMap(({ entry }) => (entry === undefined ? [] : [entry]))),
    problems: read.flatMap(({ problems }) => problems),
  }
}
