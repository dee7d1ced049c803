/**
 * Authorization details (RFC 9396) of the types that the operator has declared. Each type has a schema, a description
 * for users, and the rule by which a user may approve less.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Language } from '../platform/i18n/texts.ts'
import { isPlain } from '../platform/validation.ts'
import { isSameAddress } from './resources.ts'

/** One authorization detail. It is stored and returned exactly as the client or the device sent it. */
export interface AuthorizationDetail {
  readonly type: string
  readonly [field: string]: unknown
}

/** A schema of zod, or another object with the same method `safeParse`. */
export interface DetailSchema {
  safeParse(value: unknown): { success: boolean; data?: unknown }
}

/** Returns the description of a detail for a user: one line, or several. */
export type DescribeDetail = (detail: AuthorizationDetail, locale: Language) => string | readonly string[]

/**
 * Returns whether `approved` grants no more than `asked`. Both details are of the type that declares this function, and
 * match its schema.
 */
export type IsSubset = (asked: AuthorizationDetail, approved: AuthorizationDetail) => boolean

export interface DetailType {
  /** The schema of all fields except `type`. Unknown fields are refused if the schema does not allow them. */
  schema: DetailSchema
  describe: DescribeDetail
  /**
   * How a user may approve less than the whole detail:
   * - A list of field names. Each of these fields contains a list, from which the user may remove members, but not all.
   * - A function, for other reductions such as a lower limit. The approval is accepted only if the function returns
   *   true.
   * - Undefined: the user can only approve or deny the whole detail.
   */
  narrow?: readonly string[] | IsSubset
}

/** A detail as text for the user. */
export interface DescribedDetail {
  lines: string[]
  /** The lists from which the user may leave out members. Each member is given as text. */
  choices?: { field: string; members: string[] }[]
}

/** The declared types of a server. */
export interface DetailTypes {
  names: readonly string[]
  /** Whether the type of a detail is declared, and the detail matches the schema of this type. */
  fits(detail: AuthorizationDetail): boolean
  describe(details: readonly AuthorizationDetail[], locale: Language): DescribedDetail[]
  /**
   * Whether each approved detail equals the requested detail at the same index, or grants less in a way that its type
   * permits.
   */
  allows(asked: readonly AuthorizationDetail[], approved: readonly AuthorizationDetail[]): boolean
  /**
   * Whether each wanted detail is covered by a different granted detail. A granted detail covers a wanted detail if
   * both are equal, or if the wanted detail grants less in a way that its type permits (RFC 9396 §6).
   */
  covers(granted: readonly AuthorizationDetail[], wanted: readonly AuthorizationDetail[]): boolean
}

/** @param onFailure called if `describe` of a type throws; users then see the names and values of the fields */
export function createDetailTypes(
  declared: Readonly<Record<string, DetailType>>,
  onFailure: (type: string, error: unknown) => void = () => {},
): DetailTypes {
  const types = new Map(Object.entries(declared))

  function fits({ type, ...fields }: AuthorizationDetail): boolean {
    const read = types.get(type)?.schema.safeParse(fields)
    // Many schemas drop unknown fields without an error. A detail with such fields is refused here.
    return read?.success === true && !dropsAny(fields, read.data)
  }

  function isNoMore(asked: AuthorizationDetail, approved: AuthorizationDetail): boolean {
    if (isDeepStrictEqual(asked, approved)) return true
    const narrow = types.get(asked.type)?.narrow
    if (narrow === undefined || approved.type !== asked.type || !fits(approved)) return false
    return typeof narrow === 'function' ? narrow(asked, approved) === true : hasShorterLists(asked, approved, narrow)
  }

  function linesFor(detail: AuthorizationDetail, locale: Language): string[] {
    try {
      const texts = [types.get(detail.type)?.describe(detail, locale) ?? []].flat()
      const lines = texts.filter((line) => line.trim() !== '')
      if (lines.length > 0) return lines
    } catch (error) {
      onFailure(detail.type, error)
    }
    return Object.entries(detail).map(([name, value]) => `${name}: ${inWords(value)}`)
  }

  return {
    names: [...types.keys()],
    fits,
    describe: (details, locale) =>
      details.map((detail) => {
        const choices = choicesIn(detail, types.get(detail.type)?.narrow)
        return { lines: linesFor(detail, locale).map(visible), ...(choices.length > 0 && { choices }) }
      }),
    allows: (asked, approved) =>
      asked.length === approved.length && asked.every((detail, index) => isNoMore(detail, approved[index]!)),
    covers(granted, wanted) {
      const left = [...granted]
      return wanted.every((detail) => {
        const same = left.findIndex((each) => isDeepStrictEqual(each, detail))
        const found = same >= 0 ? same : left.findIndex((each) => isNoMore(each, detail))
        // Each granted detail covers only one wanted detail. For example, one granted payment does not cover two
        // payments.
        if (found >= 0) left.splice(found, 1)
        return found >= 0
      })
    },
  }
}

/**
 * Returns the details for a resource: the details with one of `names` in `locations` (RFC 9396 §2.2, §9), and the
 * details without `locations`.
 */
export function detailsAt(details: readonly AuthorizationDetail[], names: readonly string[]): AuthorizationDetail[] {
  return details.filter(
    ({ locations }) =>
      !Array.isArray(locations) ||
      locations.some((location) => names.some((name) => isSameAddress(name, String(location)))),
  )
}

function dropsAny(given: unknown, kept: unknown): boolean {
  if (Array.isArray(given)) return Array.isArray(kept) && given.some((value, index) => dropsAny(value, kept[index]))
  if (!isPlain(given) || !isPlain(kept)) return false
  return Object.entries(given).some(([name, value]) => !Object.hasOwn(kept, name) || dropsAny(value, kept[name]))
}

/**
 * Whether both details are equal, except that `approved` may lack some members of the lists in the fields `lists`. A
 * list must not become empty, because a resource server may understand an empty list as "all".
 */
function hasShorterLists(asked: AuthorizationDetail, approved: AuthorizationDetail, lists: readonly string[]): boolean {
  if (!isDeepStrictEqual(Object.keys(asked).sort(), Object.keys(approved).sort())) return false
  return Object.entries(asked).every(([name, value]) => {
    const other = approved[name]
    const mayBeShorter = lists.includes(name) && Array.isArray(value) && Array.isArray(other) && other.length > 0
    return mayBeShorter ? isPartOf(other, value) : isDeepStrictEqual(value, other)
  })
}

/** Whether all members of `part` are members of `whole`, in the same order. */
function isPartOf(part: readonly unknown[], whole: readonly unknown[]): boolean {
  let next = 0
  for (const member of whole) if (next < part.length && isDeepStrictEqual(member, part[next])) next++
  return next === part.length
}

function choicesIn(detail: AuthorizationDetail, narrow: DetailType['narrow']) {
  if (narrow === undefined || typeof narrow === 'function') return []
  return narrow.flatMap((field) => {
    const list = detail[field]
    return Array.isArray(list) && list.length > 1
      ? [{ field, members: list.map((each) => visible(inWords(each))) }]
      : []
  })
}

/** Returns a JSON value as text for a user. */
export function inWords(value: unknown): string {
  if (Array.isArray(value)) return value.map(inWords).join(', ')
  if (!isPlain(value)) return value === null || value === undefined ? '–' : String(value)
  return Object.values(value).map(inWords).join(' ')
}

/** Replaces invisible characters, and characters that change the writing direction, so that the user sees all text. */
export function visible(line: string): string {
  return line.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}
