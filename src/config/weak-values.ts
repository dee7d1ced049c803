/**
 * Finds weak secrets and passwords, which an attacker tries first. Weak values are reported at the start of the server and
 * by `doorbell doctor`.
 */
import type { Config } from './config.ts'

export interface WeakValue {
  /** The name of the setting, with the id of the client or the user. It never contains the value. */
  setting: string
  /**
   * Whether the value protects stored data, or the access of callers. If not, it is the secret of a client or the password
   * of a user.
   */
  isKey: boolean
  problem: string
  /** What the operator should do. */
  advice: string
}

/**
 * The shortest client secret that is not weak. This number of base64url characters contains 128 bits; a shorter secret
 * could be found by trying.
 */
const leastSecretLength = 22

/** The shortest password that is not weak, in characters (NIST SP 800-63B §5.1.1.2). */
const leastPasswordLength = 8

/**
 * Returns the weak values of a configuration. Returns none in development, because then the server is on this machine only.
 *
 * @example
 * weakValues(config) // [{ setting: 'secret', isKey: true, problem: 'is not random …', advice: 'take what …' }]
 */
export function weakValues(config: Config): WeakValue[] {
  if (config.development) return []
  return [...weakKeys(config), ...config.clients.flatMap(weakClient), ...weakPasswords(config)]
}

/** Checks the values that must be random. */
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
 * Returns whether a text that should contain 256 random bits is easy to guess: it has too few different characters, or too
 * many neighbouring characters that are equal or consecutive. For comparison: a text of 43 random base64url characters has
 * about 31 different characters and about one pair of neighbours that are consecutive. Random hexadecimal text uses all 16
 * digits.
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
