/**
 * Browsers in which a user has signed in before, known again by a cookie (OWASP's "device cookie"). Such a browser is
 * judged by its own tries, so that whoever else tries this user's password does not lock it out. The cookie opens
 * nothing: it says whose password may be tried here, not that it is known.
 */
import type { Clock } from '../../platform/clock.ts'
import { newSecret, type Vault } from '../../platform/crypto.ts'

/** One user's sign-in in a browser. */
interface KnownSignIn {
  userId: string
  /** What this browser's tries are counted by. */
  browserId: string
  generation: number
  /** Milliseconds since 1970. */
  at: number
}

export interface KnownBrowserNeeds {
  /** Whether cookies are sent over https alone. */
  secure: boolean
  /** It becomes another one whenever all sessions of the user end; then no browser is known any more. */
  generationOf?(userId: string): Promise<number>
  vault: Vault
  clock: Clock
}

export interface KnownBrowsers {
  /** Who has signed in in the browser that sends these cookies, as far as the cookie itself tells. */
  signInsOf(cookies: string | undefined): readonly KnownSignIn[]
  /** Resolves to what the browser's tries are counted by, or undefined if this user is not known in it. */
  browserIdFor(userId: string, signIns: readonly KnownSignIn[]): Promise<string | undefined>
  /** Resolves to the `Set-Cookie` of an answer to somebody who has signed in. */
  remember(userId: string, cookies: string | undefined): Promise<string>
}

/** Users of one browser who are remembered: those who signed in last. */
const mostUsers = 5

/** Browsers take 4096 bytes, name and attributes included. */
const mostCharacters = 3500

const keptForSeconds = 180 * 24 * 3600

const aad = 'known browser'

export function createKnownBrowsers(needs: KnownBrowserNeeds): KnownBrowsers {
  const { secure, generationOf = async () => 0, vault, clock } = needs
  const cookieName = `${secure ? '__Host-' : ''}doorbell_browser`

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

  /** As many as fit. */
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
      // A new id each time: who has copied the cookie of before is counted apart from now on.
      const generation = await generationOf(userId)
      const signIn: KnownSignIn = { userId, browserId: newSecret(16), generation, at: clock.now() }
      const others = signInsOf(cookies).filter((each) => each.userId !== userId)
      const value = seal([signIn, ...others].slice(0, mostUsers))
      return `${cookieName}=${value}; Max-Age=${keptForSeconds}; Path=/; HttpOnly${secure ? '; Secure' : ''}; SameSite=Lax`
    },
  }
}
