/** Values that a server starts with and an attacker tries first. Each is named at start and by `doorbell doctor`. */
import type { Config } from './config.ts'

export interface WeakValue {
  /** The setting; it names the client or the user. Never the value. */
  setting: string
  /** Whether everything hangs on it: what is kept, or who may call. */
  isKey: boolean
  problem: string
  /** What to do. */
  advice: string
}

/** Characters of base64url that hold 128 bits: fewer can be tried one by one. */
const leastSecretLength = 22

/** Characters; NIST SP 800-63B, section 5.1.1.2. */
const leastPasswordLength = 8

/**
 * What is weak in a configuration; nothing in development, where everything is on this machine.
 *
 * @example
 * weakValues(config) // [{ setting: 'secret', isKey: true, problem: 'is not random …', advice: 'take what …' }]
 */
export function weakValues(config: Config): WeakValue[] {
  if (config.development) return []
  return [...weakKeys(config), ...config.clients.flatMap(weakClient), ...weakPasswords(config)]
}

/** What has to be random, all of it. */
function weakKeys({ secret, metrics, deviceWebhook }: Config): WeakValue[] {
  const keys = { secret, 'metrics.token': metrics.token, 'deviceWebhook.secret': deviceWebhook?.secret }
  return Object.entries(keys).flatMap(([setting, value]) =>
    value !== undefined && isGuessable(value)
      ? [{ setting, isKey: true, problem: 'is not random: it repeats itself or follows a pattern', advice }]
      : [],
  )
}

const advice = 'use the output of: node -p "crypto.randomBytes(32).toString(\'base64url\')"'

/**
 * Whether a text that should hold 256 random bits has too few different characters, or too many that follow one another.
 * 43 random characters of base64url have 31 different ones, and one pair of neighbours; hexadecimal ones have all 16.
 */
export function isGuessable(text: string): boolean {
  const codes = Array.from(text, (character) => character.codePointAt(0)!)
  const different = new Set(codes).size
  const leastDifferent = /^[0-9a-f]+$/i.test(text) ? 10 : 18
  const neighbours = codes.filter((code, index) => index > 0 && Math.abs(code - codes[index - 1]!) <= 1).length
  return different < leastDifferent || neighbours > codes.length / 2
}

function weakClient({ client_id, client_secret }: Config['clients'][number]): WeakValue[] {
  if (client_secret === undefined) return []
  const setting = `client_secret of ${client_id}`
  if (client_secret.length < leastSecretLength) {
    return [{ setting, isKey: false, problem: 'is short enough to be guessed', advice }]
  }
  return new Set(client_secret).size < 8
    ? [{ setting, isKey: false, problem: 'has too few different characters', advice }]
    : []
}

function weakPasswords({ users }: Config): WeakValue[] {
  if (!Array.isArray(users)) return []
  return users.flatMap(({ id, username, email, password }) => {
    if (password === undefined) return []
    const names = [id, username, email].map((name) => name?.toLowerCase())
    const problem = names.includes(password.toLowerCase())
      ? 'is the name of the user'
      : password.length < leastPasswordLength
        ? `has fewer than ${leastPasswordLength} characters`
        : undefined
    return problem === undefined
      ? []
      : [
          {
            setting: `password of ${id}`,
            isKey: false,
            problem,
            advice: 'let the user choose a longer one, or use passkeys',
          },
        ]
  })
}
