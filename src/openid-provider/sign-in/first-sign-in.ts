/** Finds or creates the user of the built-in directory for a person who signed in at another OpenID provider. */
import type { ClientMetadata } from '../../client/metadata/client-metadata.ts'
import { validMembers } from '../../config/users.ts'
import type { Audit } from '../../platform/audit.ts'
import type { Clock } from '../../platform/clock.ts'
import { externalUserId, isExternalUserId } from '../../user/external-user-id.ts'
import type { User, UserHooks } from '../../user/user.ts'
import type { UserStore } from '../../user/user-store.ts'

export interface FirstSignInNeeds {
  users: UserHooks
  store: Pick<UserStore, 'add'>
  /** Whether a person without a user gets one (`login.createUsers`). */
  createsUsers: boolean
  /** Returns the values under which a removed user with this id may be stored (`Addition`). */
  usedIdsOf(userId: string): string[]
  /** The metadata of the consent app, which is passed as the client when a user is looked up. */
  app: ClientMetadata
  clock: Clock
  audit: Audit
}

/** What the other provider says about a person. */
export interface Person {
  issuer: string
  subject: string
  /** An address that the provider has verified. */
  verifiedAddress: string | undefined
  name: unknown
  locale: unknown
}

/** The user of a person, or the reason why there is none. `id` is the id that the user has or would have. */
export interface FoundUser {
  user: User | null
  id?: string | undefined
  outcome?: 'address_taken'
}

/**
 * Returns a function that finds the user of a person. A user who was created for a person is found only by the issuer
 * and the `sub` of this person, because the provider may give an address to another person later. Every other user is
 * found by a verified address. If there is no user, and `createsUsers` is set, the user is created.
 */
export function createFirstSignIn(needs: FirstSignInNeeds) {
  const { users, store, createsUsers, usedIdsOf, app, clock, audit } = needs

  return async (person: Person): Promise<FoundUser> => {
    const id = externalUserId(person.issuer, person.subject)
    const known = await users.find(id)
    if (known !== null) return { user: known, id }
    const owner = await ownerOf(person.verifiedAddress)
    if (owner !== null) {
      // Another tab of the same person may have created the user in the meantime.
      if (owner.id === id) return { user: owner, id }
      // The address may also be a login name of its owner. A login name identifies nobody at another provider.
      const isTheirAddress = owner.email?.toLowerCase() === person.verifiedAddress?.toLowerCase()
      if (isTheirAddress && !isExternalUserId(owner.id)) return { user: owner, id: owner.id }
      return { user: null, id: createsUsers ? id : undefined, outcome: 'address_taken' }
    }
    if (!createsUsers) return { user: null }
    await create(id, person)
    // A removed user is not created again, so there may be no user.
    return { user: await users.find(id), id }
  }

  /** Finds the user whom clients reach by this address. Addresses are stored in lower case, login names as they are. */
  async function ownerOf(address: string | undefined): Promise<User | null> {
    if (address === undefined) return null
    const byHint = (value: string) => users.findByHint({ kind: 'login_hint', value }, app)
    return (await byHint(address)) ?? byHint(address.toLowerCase())
  }

  async function create(id: string, { verifiedAddress, name, locale }: Person): Promise<void> {
    const user = { id, ...validMembers({ email: verifiedAddress, name, locale }) }
    const isAdded = await store.add(user, clock.now(), { usedIds: usedIdsOf(id) })
    if (isAdded) audit({ event: 'user.added', user: id, by: 'another provider' })
  }
}
