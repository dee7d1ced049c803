/** Reads the users of a configuration: a list, or hooks of the application. */
import { z } from 'zod'
import { asLanguageTag, isLanguageTag } from '../platform/i18n/texts.ts'
import { didYouMean, expectation, isPlain, nearest, readSettings, secretExpectation } from '../platform/validation.ts'
import { plainNumber, storedNumber } from '../user/phone-number.ts'
import type { ConfiguredUser, UserHooks } from '../user/user.ts'
import { isUserId, userIdPattern } from '../user/user-id.ts'

/** Reads the setting `users`. Each problem begins with `users`, and no problem contains a password. */
export function readUsers(input: unknown): { users: ConfiguredUser[] | UserHooks; problems: string[] } {
  if (Array.isArray(input)) return readList(input)
  if (typeof input === 'object' && input !== null) return readHooks(input)
  return { users: [], problems: ['users must be a list of users or an object of hooks'] }
}

const hooks = ['findByHint', 'find', 'verifyPassword', 'verifyUserCode', 'notify', 'notifyAccount']
const neededHooks = ['findByHint', 'find']

function readHooks(input: object): { users: UserHooks; problems: string[] } {
  const given = input as Record<string, unknown>
  const missing = neededHooks.filter((name) => given[name] === undefined)
  const wrong = hooks.filter((name) => given[name] !== undefined && typeof given[name] !== 'function')
  const slips = Object.keys(given).flatMap((name) => {
    const meant = hooks.includes(name) ? undefined : nearest(name, hooks)
    return meant === undefined ? [] : [`users.${name} is not a hook${didYouMean(`users.${meant}`)}`]
  })
  const problems = [
    ...missing.map((name) => `users.${name} is missing; users is a list of users or an object of hooks`),
    ...wrong.map((name) => `users.${name} must be a function`),
    ...slips,
  ]
  return { users: input as UserHooks, problems }
}

const word = (what: string, pattern: RegExp) =>
  z
    .string(expectation(what))
    .refine((value) => pattern.test(value), expectation(what))
    .exactOptional()
const secret = () =>
  z
    .string(secretExpectation('a string that is not empty'))
    .refine((value) => value !== '', secretExpectation('a string that is not empty'))
    .exactOptional()

const aNumber = 'a phone number, like "+491234567"'

const userSchema = z.strictObject({
  id: word('1 to 255 printable ASCII characters without spaces', userIdPattern),
  email: word('an email address', /^(?=.{3,254}$)[^\s\p{C}@]+@[^\s\p{C}@]+$/u),
  phone_number: z
    .string(expectation(aNumber))
    .refine((value) => plainNumber(value) !== undefined, expectation(aNumber))
    .transform(storedNumber)
    .exactOptional(),
  username: word('1 to 255 visible characters without spaces', /^[^\s\p{C}]{1,255}$/u),
  name: word('one line of text, at most 255 characters', /^(?=.*\S)\P{Cc}{1,255}$/u),
  locale: z
    .string(expectation('a language tag, like "en" or "de-AT"'))
    .refine(isLanguageTag, expectation('a language tag, like "en" or "de-AT"'))
    .exactOptional(),
  disabled: z.boolean(expectation('true or false')).exactOptional(),
  same_person: z.boolean(expectation('true or false')).exactOptional(),
  claims: z.record(z.string(), z.unknown(), expectation('an object')).exactOptional(),
  password: secret(),
  user_code: secret(),
})

const knownOfUser = Object.keys(userSchema.shape)

/**
 * Returns those members of a user that are valid, for values from another server. A locale in another form, such as
 * `de_DE`, is converted.
 */
export function validMembers({ email, name, locale }: Record<'email' | 'name' | 'locale', unknown>) {
  const { shape } = userSchema
  const address = shape.email.safeParse(email)
  const line = shape.name.safeParse(name)
  const tag = shape.locale.safeParse(typeof locale === 'string' ? asLanguageTag(locale) : undefined)
  return {
    ...(address.success && { email: address.data }),
    ...(line.success && { name: line.data }),
    ...(tag.data !== undefined && { locale: Intl.getCanonicalLocales(tag.data)[0]! }),
  }
}

function readList(input: unknown[]): { users: ConfiguredUser[]; problems: string[] } {
  const problems: string[] = []
  const users = input.map((entry, index): ConfiguredUser => {
    const read = readUser(entry)
    problems.push(...read.problems.map((problem) => `users[${index}]${problem}`))
    return read.user
  })
  return { users, problems: [...problems, ...complainAboutTwins(users)] }
}

function readUser(entry: unknown): { user: ConfiguredUser; problems: string[] } {
  if (!isPlain(entry)) return { user: { id: '' }, problems: [' must be an object'] }
  const given = Object.fromEntries(Object.entries(entry).filter(([, value]) => value !== undefined))
  const { value, problems, broken } = readSettings(userSchema, given, { known: knownOfUser })
  const said = problems.map((problem) => `.${problem}`)
  const id = value.id ?? value.username ?? value.email
  const isIdentified = ['username', 'email', 'phone_number'].some((name) => name in value || broken.has(name))
  if (!isIdentified) said.push(' needs a username, an email or a phone_number, so that the user can be found')
  else if (id === undefined && broken.size === 0) said.push('.id is missing; only username and email can replace it')
  else if (id !== undefined && !isUserId(id)) {
    said.push('.id is missing; the username or email that would replace it is not plain ASCII')
  }
  return { user: { ...value, id: id ?? '' }, problems: said }
}

/** Reports identifiers that two users share. A hint may contain any identifier, and must identify exactly one user. */
function complainAboutTwins(users: ConfiguredUser[]): string[] {
  const owners = new Map<string, { index: number; place: string }>()
  const problems: string[] = []
  for (const [index, user] of users.entries()) {
    for (const name of ['id', 'username', 'email', 'phone_number'] as const) {
      const given = user[name]
      if (!given) continue
      const value = (name === 'phone_number' && plainNumber(given)) || given.toLowerCase()
      const owner = owners.get(value)
      if (owner === undefined) owners.set(value, { index, place: `users[${index}].${name}` })
      else if (owner.index !== index) problems.push(`users[${index}].${name} is the same as ${owner.place}`)
    }
  }
  return problems
}
