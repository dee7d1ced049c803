/** Authorization details as they come from outside: JSON that is checked for what could harm, before its type is asked. */

import { isStorable } from '../platform/http/outside-text.ts'
import { isPlain } from '../platform/validation.ts'
import type { AuthorizationDetail } from './detail-types.ts'

/** Bytes of JSON. A user cannot judge more, and every token carries it. */
const mostBytes = 16 * 1024
const mostDetails = 20
/** Lists and objects within each other, the outermost list included. */
const deepest = 8

/** The JSON in a text. What is none, or too long to be looked at, stays the text, which is no list of details. */
export function parseDetails(text: string): unknown {
  if (Buffer.byteLength(text) > mostBytes) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** Whether this is a list of details, each of some type: not whether anybody knows that type (RA-2, RA-3). */
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

/** The fields that RFC 9396 §2.2 gives a meaning in all types. */
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

/** What survives being written and read again: the user approves what is kept, to the letter. */
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
