/**
 * Browsers in which a user has signed in before, recognised by a cookie (OWASP's "device cookie"). Sign-in attempts in
 * such a browser are counted separately. So wrong passwords that are sent from elsewhere do not lock the user out in
 * this browser. The cookie gives no access. It only contains the users for whom attempts are counted separately.
 */
import type { Clock } from '../../platform/clock.ts'
import { newSecret, type Vault } from '../../platform/crypto.ts'
import { cookieNaming } from '../../platform/http/cookie-names.ts'

/** The last sign-in of one user in a browser. */
interface KnownSignIn {
  userId: string
  /** The key by which attempts in this browser are counted. */
  browserId: string
  generation: number
  /** Milliseconds since 1970. */
  at: number
}

export interface KnownBrowserNeeds {
  issuer: string
  /**
   * Resolves to a number that changes whenever all sessions of the user are ended. After such a change, no browser is
   * known for the user.
   */
  generationOf?(userId: string): Promise<number>
  vault: Vault
  clock: Clock
}

export interface KnownBrowsers {
  /** Returns the sign-ins in the cookie, without a check of their generations. */
  signInsOf(cookies: string | undefined): readonly KnownSignIn[]
  /**
   * Resolves to the key by which attempts in the browser are counted, or undefined if the browser is not known for this
   * user.
   */
  browserIdFor(userId: string, signIns: readonly KnownSignIn[]): Promise<string | undefined>
  /** Resolves to the `Set-Cookie` header for a browser in which the user has just signed in. */
  remember(userId: string, cookies: string | undefined): Promise<string>
}

/**
 * Maximum number of users in the cookie of a browser. If more users sign in, the cookie keeps those who signed in last.
 */
const mostUsers = 5

/**
 * Maximum length of the value of the cookie, in characters. Browsers accept cookies of 4096 bytes, including the name
 * and the attributes.
 */
const mostCharacters = 3500

const keptForSeconds = 180 * 24 * 3600

const aad = 'known browser'

export function createKnownBrowsers(needs: KnownBrowserNeeds): KnownBrowsers {
  const { issuer, generationOf = async () => 0, vault, clock } = needs
  const { secure, prefix, suffix } = cookieNaming(issuer)
  const cookieName = `${prefix}doorbell_browser${suffix}`

  function signInsOf(cookies: string | undefined): KnownSignIn[] {
    const sent = cookies?.split(/; */).find((cookie) => cookie.startsWith(`${cookieName}=`))
    if (sent === undefined) return []
    try {
      const signIns = JSON.parse(vault.open(sent.slice(cookieName.length + 1), aad)) as KnownSignIn[]
      return signIns.filter(({ at }) => at + keptForSeconds * 1000 > clock.now())
    } catch {
      return []
    }
  }

  /** Encrypts as many sign-ins as fit into a cookie, the newest first. */
  function seal(signIns: KnownSignIn[]): string {
    const sealed = vault.seal(JSON.stringify(signIns), aad)
    return sealed.length <= mostCharacters ? sealed : seal(signIns.slice(0, -1))
  }

  return {
    signInsOf,

    async browserIdFor(userId, signIns) {
      const signIn = signIns.find((each) => each.userId === userId)
      if (signIn === undefined || signIn.generation !== (await generationOf(userId))) return undefined
      return signIn.browserId
    },

    async remember(userId, cookies) {
      // Each sign-in gives the browser a new id. So attempts of a thief who has a copy of the previous cookie no longer
      // count as attempts of this browser.
      const generation = await generationOf(userId)
      const signIn: KnownSignIn = { userId, browserId: newSecret(16), generation, at: clock.now() }
      const others = signInsOf(cookies).filter((each) => each.userId !== userId)
      const value = seal([signIn, ...others].slice(0, mostUsers))
      return `${cookieName}=${value}; Max-Age=${keptForSeconds}; Path=/; HttpOnly${secure ? '; Secure' : ''}; SameSite=Lax`
    },
  }
}
