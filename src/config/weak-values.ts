/**
 * Finds secrets, passwords and user codes that are easy to guess. Weak values of the configuration are reported at the
 * start of the server and by `doorbell doctor`. A command refuses weak values that are given to it: only their hashes
 * are stored, so weak values could not be found later.
 */
import { readPostgresUrl } from '../platform/storage/postgres-address.ts'
import type { User } from '../user/user.ts'
import type { Config } from './config.ts'
import { demoClientWithSecret, demoUsers } from './demo.ts'
import { containsEasyRun, isCommonPassword, isEasySequence } from './easy-passwords.ts'
import { secretCommand } from './settings/formats.ts'

/** What is wrong with one value, and what to do. Neither text contains the value. */
export interface Weakness {
  problem: string
  /** What the operator should do. */
  advice: string
}

export interface WeakValue extends Weakness {
  /** The name of the setting, with the id of the client or the user. It never contains the value. */
  setting: string
  /**
   * Whether the value is a key or a token of this server, which protects stored data or authenticates calls. If false,
   * it is the secret of a client, the password or user code of a user, or a credential of this server at another
   * server.
   */
  isKey: boolean
}

/**
 * The shortest client secret that is not weak, in characters. 22 random base64url characters contain at least 128 bits;
 * a shorter secret could be found by trying.
 */
const leastSecretLength = 22

/** The shortest password that is not weak, in characters (NIST SP 800-63B §5.1.1.2). */
const leastPasswordLength = 8

/**
 * Returns the weak values of a configuration. Returns none in development, where weak values are allowed.
 *
 * @example
 * weakValues(config) // [{ setting: 'secret', isKey: true, problem: 'is not random …', advice: 'take what …' }]
 */
export function weakValues(config: Config): WeakValue[] {
  if (config.development) return []
  const clients = [...config.clients, ...listIn<Config['clients'][number]>(config.oidc.clients)]
  return [...weakKeys(config), ...weakLogins(config), ...clients.flatMap(weakClient), ...weakUsers(config)]
}

/** Checks the values that must be random. */
function weakKeys({ secret, metrics, deviceWebhook, oidc }: Config): WeakValue[] {
  const { keys: cookieKeys } = (oidc.cookies ?? {}) as { keys?: unknown }
  const keys = {
    secret,
    'metrics.token': metrics.token,
    'deviceWebhook.secret': deviceWebhook?.secret,
    ...Object.fromEntries(listIn(cookieKeys).map((key, index) => [`oidc.cookies.keys[${index}]`, textOf(key)])),
  }
  return Object.entries(keys).flatMap(([setting, value]) =>
    value !== undefined && isGuessable(value) ? [{ setting, isKey: true, problem: notRandom, advice }] : [],
  )
}

const notRandom =
  'does not look random: it repeats itself, follows a pattern, contains a common word or has letters of one case only'

const advice = `use the output of: ${secretCommand}`

/**
 * Returns whether a text that should contain 256 random bits is easy to guess. Random text in base64url or in
 * hexadecimal digits is not. A text is easy to guess if one of these statements is true:
 * - It has too few different characters. 43 random base64url characters contain about 31 different ones; random
 *   hexadecimal text uses all 16 digits.
 * - More than half of its neighbouring characters are equal or consecutive. Random base64url text has about one such
 *   pair.
 * - It has no upper-case or no lower-case letters, as if it was made of words. The probability that 43 random base64url
 *   characters have only one case is below 1 in 10⁹. Hexadecimal text is exempt, because its letters have one case.
 * - It contains a common word, or characters in a known order. Hexadecimal text is exempt, because random digits are in
 *   order more often.
 */
export function isGuessable(text: string): boolean {
  const digits = hexadecimal.exec(text)?.[1]
  const codes = Array.from(digits ?? text, (character) => character.codePointAt(0)!)
  const different = new Set(codes).size
  const neighbours = codes.filter((code, index) => index > 0 && Math.abs(code - codes[index - 1]!) <= 1).length
  if (different < (digits === undefined ? 18 : 10) || neighbours > codes.length / 2) return true
  return digits === undefined && (!/[A-Z]/.test(text) || !/[a-z]/.test(text) || containsEasyRun(text))
}

/** Hexadecimal digits, alone or after a prefix such as `whsec_`. */
const hexadecimal = /^(?:[a-z]{1,10}_)?([0-9a-f]+)$/i

/**
 * Checks the passwords and secrets with which this server authenticates at other servers. An attacker who guesses one
 * could pose as this server.
 */
function weakLogins({ login, database, email }: Config): WeakValue[] {
  const { client_secret } = login
  return [
    ...(client_secret === undefined ? [] : named('login.client_secret', weaknessOfClientSecret(client_secret))),
    ...named('password of database', weaknessOfLogin(loginIn(database))),
    ...named('password of email.smtp', weaknessOfLogin(loginIn(email?.smtp))),
  ]
}

interface Login {
  user: string
  password: string
}

/**
 * Returns the user and the password in the address of a database or mail server; undefined if the address contains no
 * password.
 */
function loginIn(address: string | undefined): Login | undefined {
  if (address === undefined || address.startsWith('sqlite:')) return undefined
  const isMail = address.startsWith('smtp')
  const { user = '', password } = isMail ? decoded(new URL(address)) : readPostgresUrl(address)
  return password === undefined || password === '' ? undefined : { user, password }
}

const decoded = ({ username, password }: URL): Login => ({
  user: decodeURIComponent(username),
  password: decodeURIComponent(password),
})

function weaknessOfLogin(login: Login | undefined): Weakness | undefined {
  if (login === undefined) return undefined
  const problem = problemWithPassword(login.password, [login.user])
  return problem === undefined ? undefined : { problem, advice }
}

/**
 * Returns `value` if it is a list, and an empty list if not. Needed for the setting `oidc`, whose members have not been
 * checked.
 */
const listIn = <Value = unknown>(value: unknown): Value[] => (Array.isArray(value) ? (value as Value[]) : [])

/** Returns a cookie key of oidc-provider as text; undefined if it is neither a string nor a buffer. */
const textOf = (key: unknown) =>
  typeof key === 'string' ? key : Buffer.isBuffer(key) ? key.toString('hex') : undefined

function weakClient({ client_id, client_secret }: Config['clients'][number]): WeakValue[] {
  if (client_secret === undefined) return []
  return named(`client_secret of ${client_id}`, weaknessOfClientSecret(client_secret))
}

function weakUsers({ users }: Config): WeakValue[] {
  if (!Array.isArray(users)) return []
  return users.flatMap((user) => [
    ...(user.password === undefined ? [] : named(`password of ${user.id}`, weaknessOfPassword(user.password, user))),
    ...(user.user_code === undefined ? [] : named(`user_code of ${user.id}`, weaknessOfUserCode(user.user_code, user))),
  ])
}

function named(setting: string, weakness: Weakness | undefined): WeakValue[] {
  return weakness === undefined ? [] : [{ setting, isKey: false, ...weakness }]
}

/**
 * Returns why a client secret is weak, or undefined if it is not.
 *
 * @example
 * weaknessOfClientSecret('q') // { problem: 'is short enough to be guessed', advice: 'use the output of …' }
 */
export function weaknessOfClientSecret(secret: string): Weakness | undefined {
  const demoClient = demoClientWithSecret(secret)
  if (demoClient !== undefined) return { problem: `is the secret of ${demoClient}, which is public`, advice }
  if (secret.length < leastSecretLength) return { problem: 'is short enough to be guessed', advice }
  return new Set(secret).size < 8 ? { problem: 'has too few different characters', advice } : undefined
}

/** The names of a user, which others may know. */
export type NamesOfUser = Pick<User, 'id' | 'username' | 'email' | 'phone_number' | 'name'>

/** Returns why a password of this user is weak, or undefined if it is not. */
export function weaknessOfPassword(password: string, user: NamesOfUser): Weakness | undefined {
  const problem = problemWithPassword(password, namesOf(user))
  return problem === undefined ? undefined : { problem, advice: 'let the user choose a longer one, or use passkeys' }
}

function problemWithPassword(password: string, names: string[]): string | undefined {
  if (isOneOf(names, password)) return 'is the name of the user'
  if (demoUsers.some((demoUser) => demoUser.password === password)) return 'is a password of the demo, which is public'
  if (password.length < leastPasswordLength) return `has fewer than ${leastPasswordLength} characters`
  if (isCommonPassword(password)) return 'is one of the most common passwords'
  return isEasySequence(password) ? 'repeats itself, or follows the order of numbers, letters or keys' : undefined
}

/**
 * Returns why a user code is weak, or undefined if it is not. A code may be short, because few attempts are allowed. So
 * only codes that an attacker would try first are weak.
 */
export function weaknessOfUserCode(code: string, user: NamesOfUser): Weakness | undefined {
  const problem = isOneOf(namesOf(user), code)
    ? 'is the name of the user'
    : isSequence(code)
      ? 'repeats one character or counts up or down'
      : undefined
  return problem === undefined ? undefined : { problem, advice: 'use a random one' }
}

const namesOf = ({ id, username, email, phone_number, name }: NamesOfUser): string[] =>
  [id, username, email, phone_number, name].filter((each) => each !== undefined)

const isOneOf = (names: string[], value: string): boolean =>
  names.some((each) => each.toLowerCase() === value.toLowerCase())

/** Returns whether the code points of neighbouring characters always differ by the same number: 0, 1 or -1. */
function isSequence(text: string): boolean {
  const codes = Array.from(text, (character) => character.codePointAt(0)!)
  const steps = new Set(codes.slice(1).map((code, index) => code - codes[index]!))
  return steps.size <= 1 && [...steps].every((step) => Math.abs(step) <= 1)
}
