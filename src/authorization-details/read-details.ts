/**
 * Reads authorization details from a request, and checks their size, depth and form. `detail-types.ts` checks their
 * types later.
 */

import { isStorable } from '../platform/http/outside-text.ts'
import { isPlain } from '../platform/validation.ts'
import type { AuthorizationDetail } from './detail-types.ts'

/**
 * Maximum size of the JSON in bytes. The size is limited because a user cannot judge long details, and because every
 * token contains the details.
 */
const mostBytes = 16 * 1024
const mostDetails = 20
/** Levels of nested lists and objects, including the outermost list. */
const deepest = 8

/** Returns the parsed JSON, or the text itself if it is not JSON or is too long. `areDetails` then refuses the text. */
export function parseDetails(text: string): unknown {
  if (Buffer.byteLength(text) > mostBytes) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/**
 * Whether a value is a list of authorization details of permitted size, depth and form. Does not check whether their
 * types are declared.
 */
export function areDetails(value: unknown): value is AuthorizationDetail[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= mostDetails &&
    isSound(value, deepest) &&
    Buffer.byteLength(JSON.stringify(value)) <= mostBytes &&
    value.every(isDetail)
  )
}

const commonLists = ['locations', 'actions', 'datatypes', 'privileges']

/** Checks `type` and the common fields of RFC 9396 §2.2. */
function isDetail(value: unknown): boolean {
  if (!isPlain(value) || !isWord(value.type)) return false
  const lists = commonLists.filter((name) => Object.hasOwn(value, name)).map((name) => value[name])
  return (
    lists.every((list) => Array.isArray(list) && list.every(isWord)) &&
    (!Object.hasOwn(value, 'identifier') || isWord(value.identifier))
  )
}

function isWord(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

/**
 * Whether a value stays the same when it is stored and read again, so that the stored value is exactly the value that
 * the user approves. Also checks that lists and objects are nested at most `levels` deep.
 */
function isSound(value: unknown, levels: number): boolean {
  if (typeof value === 'string') return isStorable(value)
  if (typeof value === 'number')
    return Number.isFinite(value) && !(Number.isInteger(value) && !Number.isSafeInteger(value))
  if (typeof value !== 'object' || value === null) return true
  if (levels === 0) return false
  return Object.entries(value).every(
    ([name, inner]) => name !== '__proto__' && isStorable(name) && isSound(inner, levels - 1),
  )
}
