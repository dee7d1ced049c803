/**
 * What exactly a client asks for (RFC 9396): details of types that the operator has declared, each with what it must
 * look like, how it is said to a user, and how much less of it a user may approve.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Language } from '../platform/i18n/texts.ts'
import { isPlain } from '../platform/validation.ts'

/** One thing asked for. Kept and handed on as it came: nothing in it is normalised (RA-10). */
export interface AuthorizationDetail {
  readonly type: string
  readonly [field: string]: unknown
}

/** What says whether a value is as it should be. The schemas of zod are such, and those of others with this method. */
export interface DetailSchema {
  safeParse(value: unknown): { success: boolean; data?: unknown }
}

/** What a user reads of a detail: one line, or several. */
export type DescribeDetail = (detail: AuthorizationDetail, locale: Language) => string | readonly string[]

/** Whether `approved` is no more than `asked`. Both are of the type, and fit its schema. */
export type IsNoMore = (asked: AuthorizationDetail, approved: AuthorizationDetail) => boolean

export interface DetailType {
  /** All fields but `type`. A field it does not name is refused, unless it says that others may be there. */
  schema: DetailSchema
  describe: DescribeDetail
  /** The lists of which a user may leave members out; or whatever else is less. Without it: all or nothing. */
  narrow?: readonly string[] | IsNoMore
}

/** A detail in words. */
export interface DescribedDetail {
  lines: string[]
  /** The lists of which the user may leave members out, each member in words. */
  choices?: { field: string; members: string[] }[]
}

export interface DetailTypes {
  names: readonly string[]
  /** Whether a detail is of a known type and as that wants it. */
  fits(detail: AuthorizationDetail): boolean
  describe(details: readonly AuthorizationDetail[], locale: Language): DescribedDetail[]
  /** Whether what a user approves is what was asked, one by one, or less where its type allows that. */
  allows(asked: readonly AuthorizationDetail[], approved: readonly AuthorizationDetail[]): boolean
  /** Whether each of `wanted` is one of `granted`, or less than one: what a client may have of its grant (RA-6). */
  covers(granted: readonly AuthorizationDetail[], wanted: readonly AuthorizationDetail[]): boolean
}

/** @param onFailure hears that a type could not be described; the user then reads its fields as they are */
export function createDetailTypes(
  declared: Readonly<Record<string, DetailType>>,
  onFailure: (type: string, error: unknown) => void = () => {},
): DetailTypes {
  const types = new Map(Object.entries(declared))

  function fits({ type, ...fields }: AuthorizationDetail): boolean {
    const read = types.get(type)?.schema.safeParse(fields)
    // Many schemas drop what they do not know, and say nothing.
    return read?.success === true && !dropsAny(fields, read.data)
  }

  function isNoMore(asked: AuthorizationDetail, approved: AuthorizationDetail): boolean {
    if (isDeepStrictEqual(asked, approved)) return true
    const narrow = types.get(asked.type)?.narrow
    if (narrow === undefined || approved.type !== asked.type || !fits(approved)) return false
    return typeof narrow === 'function' ? narrow(asked, approved) === true : hasShorterLists(asked, approved, narrow)
  }

  function say(detail: AuthorizationDetail, locale: Language): string[] {
    try {
      const said = [types.get(detail.type)?.describe(detail, locale) ?? []].flat()
      const lines = said.filter((line) => line.trim() !== '')
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
        return { lines: say(detail, locale).map(visible), ...(choices.length > 0 && { choices }) }
      }),
    allows: (asked, approved) =>
      asked.length === approved.length && asked.every((detail, index) => isNoMore(detail, approved[index]!)),
    covers(granted, wanted) {
      const left = [...granted]
      return wanted.every((detail) => {
        const same = left.findIndex((each) => isDeepStrictEqual(each, detail))
        const found = same >= 0 ? same : left.findIndex((each) => isNoMore(each, detail))
        // Two payments are not one payment twice.
        if (found >= 0) left.splice(found, 1)
        return found >= 0
      })
    },
  }
}

/**
 * What of the details is the business of the service a token is for: those that name it among their `locations`
 * (RFC 9396 §2.2, §9), and those that name none.
 */
export function detailsAt(details: readonly AuthorizationDetail[], names: readonly string[]): AuthorizationDetail[] {
  return details.filter(
    ({ locations }) => !Array.isArray(locations) || locations.some((location) => names.includes(location as string)),
  )
}

function dropsAny(given: unknown, kept: unknown): boolean {
  if (Array.isArray(given)) return Array.isArray(kept) && given.some((value, index) => dropsAny(value, kept[index]))
  if (!isPlain(given) || !isPlain(kept)) return false
  return Object.entries(given).some(([name, value]) => !Object.hasOwn(kept, name) || dropsAny(value, kept[name]))
}

/** An empty list is no shorter one: to whoever reads it later it may well mean "all". */
function hasShorterLists(asked: AuthorizationDetail, approved: AuthorizationDetail, lists: readonly string[]): boolean {
  if (!isDeepStrictEqual(Object.keys(asked).sort(), Object.keys(approved).sort())) return false
  return Object.entries(asked).every(([name, value]) => {
    const other = approved[name]
    const mayBeShorter = lists.includes(name) && Array.isArray(value) && Array.isArray(other) && other.length > 0
    return mayBeShorter ? isPartOf(other, value) : isDeepStrictEqual(value, other)
  })
}

/** The same members in the same order, some of them left out. */
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

/** A value of JSON for somebody who does not read JSON. */
export function inWords(value: unknown): string {
  if (Array.isArray(value)) return value.map(inWords).join(', ')
  if (!isPlain(value)) return value === null || value === undefined ? '–' : String(value)
  return Object.values(value).map(inWords).join(' ')
}

/** Whoever decides by a line sees all of it, in the order in which it is written (RA-10). */
function visible(line: string): string {
  return line.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}
