/** Reads and validates request bodies. If a body is not valid, an OAuthError is thrown. */
import { OAuthError } from '../oauth-error.ts'
import { copyOf, holdsOnlyStorable, isStorable } from './outside-text.ts'

/**
 * The parameters of a request. Each name occurs once, and no value is empty. The type is a Map, so that no name is
 * special (`__proto__`).
 */
export type Form = ReadonlyMap<string, string>

/** The only parameter that may be repeated (RFC 8707 §2). Read it with `allOf`. */
const repeatable = 'resource'
/**
 * Separates the values of the repeatable parameter in a `Form`. No value can contain this character, because NUL is
 * refused.
 */
const separator = '\0'

/** Returns all values of a parameter that may be repeated. */
export function allOf(form: Form, name: string): string[] {
  return (form.get(name) ?? '').split(separator).filter((value) => value !== '')
}

const MAX_PARAMETERS = 100
const formType = 'application/x-www-form-urlencoded'
const jsonType = 'application/json'

/** Returns whether the content type is the type of a form, with any character set. */
export function isForm(contentType = ''): boolean {
  return contentType.split(';')[0]!.trim().toLowerCase() === formType
}

/**
 * Reads an application/x-www-form-urlencoded body. Rejects invalid encodings. `URLSearchParams` would accept them, and
 * put other characters in their place.
 *
 * Forms are UTF-8 (RFC 6749 appendix B). But Apache HttpClient 5 declares ISO-8859-1 by default. A form with such a
 * declaration is accepted if it contains only ASCII characters, which are the same in UTF-8.
 */
export function readForm(contentType: string | undefined, body: Buffer): Form {
  const { type, charset } = contentType === formType ? plainForm : parseContentType(contentType)
  if (type !== formType) throw refused(`the body must be ${formType}`)
  const text = decodeUtf8(body)
  const isReadable = charset === 'utf-8' || (extendingAscii.includes(charset) && !beyondAscii.test(text))
  if (!isReadable) throw refused('the body must be UTF-8, not of another character set')
  const pairs: Pair[] = []
  for (const piece of text.split('&')) if (piece !== '') pairs.push(readPiece(piece))
  return text.length > mostKeptTogether ? copyOfForm(gather(pairs)) : gather(pairs)
}

/**
 * If a body has more characters than this, its values are copied. So a value that is kept in memory does not keep the
 * whole body in memory.
 */
const mostKeptTogether = 1024

const copyOfForm = (form: Form): Form => new Map([...form].map(([name, value]) => [name, copyOf(value)]))

const extendingAscii = ['iso-8859-1', 'us-ascii']
/** A character, or a percent-encoded byte, that is not ASCII. */
const beyondAscii = /[^\0-\x7f]|%[89a-f]/i

/**
 * Reads a body that may be a form or a flat JSON object. Numbers and booleans become text, null counts as absent.
 *
 * @param structures names of members that may have any JSON value. Such a value becomes the JSON text that a form would
 * contain
 */
export function readJsonFields(
  contentType: string | undefined,
  body: Buffer,
  structures: readonly string[] = [],
): Form {
  if (!isJson(contentType)) return readForm(contentType, body)
  return gather(
    Object.entries(parseObject(decodeUtf8(body))).map(([name, value]) => [
      name,
      structures.includes(name) && typeof value === 'object' && value !== null ? JSON.stringify(value) : textOf(value),
    ]),
  )
}

/** Reads a JSON body. The value may be of any type, so the caller must validate it. */
export function readJson(contentType: string | undefined, body: Buffer): unknown {
  if (!isJson(contentType)) throw refused(`the body must be ${jsonType}`)
  return parseJson(decodeUtf8(body))
}

/** Reads the query of a URL. A query should not contain secrets. */
export function readQuery(url: string): Form {
  const start = url.indexOf('?')
  return readForm(formType, Buffer.from(start === -1 ? '' : url.slice(start + 1)))
}

type Pair = [name: string, value: string]

function gather(pairs: Pair[]): Form {
  if (pairs.length > MAX_PARAMETERS) throw refused(`the body has more than ${MAX_PARAMETERS} parameters`)
  const form = new Map<string, string>()
  let isAnyEmpty = false
  for (const [name, value] of pairs) {
    if (value === '') isAnyEmpty = true
    if (!isStorable(name) || !isStorable(value)) throw refused('the body has characters that are not allowed')
    const before = form.get(name)
    if (before !== undefined && name !== repeatable) throw refused('a parameter is repeated') // RFC 6749 §3.1
    form.set(name, before === undefined ? value : before + separator + value)
  }
  return isAnyEmpty ? withoutEmpty(form) : form
}

/**
 * Removes empty values: they count as absent (RFC 6749 §3.1). Called after all parameters have been read, because a
 * parameter with an empty value also counts as a repetition.
 */
function withoutEmpty(form: Form): Form {
  return new Map([...form].filter(([, value]) => value !== ''))
}

function readPiece(piece: string): Pair {
  const end = piece.indexOf('=')
  if (end === -1) return [decodePercent(piece), '']
  return [decodePercent(piece.slice(0, end)), decodePercent(piece.slice(end + 1))]
}

const encoded = /[%+]/

function decodePercent(text: string): string {
  if (!encoded.test(text)) return text
  try {
    return decodeURIComponent(text.includes('+') ? text.replaceAll('+', ' ') : text)
  } catch {
    throw refused('the body is not correctly percent-encoded UTF-8')
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodeUtf8(body: Buffer): string {
  try {
    return utf8.decode(body)
  } catch {
    throw refused('the body is not valid UTF-8')
  }
}

function parseObject(text: string): object {
  const value = parseJson(text)
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refused('the body must be a JSON object')
  return value
}

function parseJson(text: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw refused('the body is not valid JSON')
  }
  if (isTooDeep(value)) throw refused('the body is nested too deeply')
  if (!holdsOnlyStorable(value)) throw refused('the body has characters that are not allowed')
  return value
}

/**
 * Upper limit for the nesting of JSON. Real input needs a few levels. Deeper input is probably an attempt to cause a
 * stack overflow.
 */
const deepest = 64

/** Returns whether a JSON value is nested so deeply that traversing or serialising it could fail. */
export function isTooDeep(value: unknown, levels = deepest): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((inner) => isTooDeep(inner, levels - 1))
}

function textOf(value: unknown): string {
  if (value === null) return ''
  if (typeof value === 'string') return value
  if (typeof value === 'boolean' || Number.isFinite(value)) return String(value)
  throw refused('every member of the JSON object must be a string, a number or a boolean')
}

function isJson(contentType: string | undefined): boolean {
  const { type, charset } = parseContentType(contentType)
  return type === jsonType && charset === 'utf-8'
}

const plainForm = { type: formType, charset: 'utf-8' }

/**
 * Returns the media type and the character set in lower case. If the header contains several character sets, they are
 * joined to one text. The result is not the name of a character set, so the body is refused.
 */
function parseContentType(contentType = ''): { type: string; charset: string } {
  const [type = '', ...parameters] = contentType.toLowerCase().split(';')
  const charsets = parameters.flatMap((parameter) => {
    const [name = '', value = ''] = parameter.trim().split('=')
    return name === 'charset' ? [value.replace(/^"(.*)"$/, '$1')] : []
  })
  return { type: type.trim(), charset: charsets.length === 0 ? 'utf-8' : charsets.join(' ') }
}

function refused(hint: string): OAuthError {
  return new OAuthError('invalid_request', hint)
}
