/** Finds the user of the built-in directory whom a subject identifier (RFC 9493) identifies. */
import { externalUserId } from './external-user-id.ts'
import { accountIn, usernameIn } from './subject-identifier.ts'
import type { HintSubject, SubjectIdentifier, User } from './user.ts'

/** The functions with which the built-in directory finds a user. */
export interface DirectoryLookups {
  find(id: string): Promise<User | null>
  /** Finds a user by id, username, e-mail address or phone number. */
  findByName(name: string): Promise<User | null>
  /**
   * Finds a user by the value of a claim. The claim determines which property of the user is compared with the value.
   */
  findBySubject(subject: HintSubject): Promise<User | null>
  /** The issuer whose subjects (`sub`) are the ids of the users in the built-in directory. */
  issuer: string
}

/**
 * Returns a function that finds the user. The function resolves to null if there is no user, or if the format of the
 * identifier is not known.
 */
export function createFindByIdentifier({ find, findByName, findBySubject, issuer }: DirectoryLookups) {
  async function findByIdentifier(identifier: SubjectIdentifier): Promise<User | null> {
    switch (identifier.format) {
      case 'account':
        return findByAccount(accountIn(String(identifier.uri)))
      case 'email':
      case 'phone_number':
        return findBySubject({ claim: identifier.format, value: identifier[identifier.format] })
      case 'iss_sub':
        return find(idOfSubject(String(identifier.iss), String(identifier.sub)))
      case 'opaque':
        return find(String(identifier.id))
      case 'aliases':
        return findByAliases(identifier.identifiers as SubjectIdentifier[])
      default:
        return null
    }
  }

  /** A subject of another issuer is a user only if the user was created when the person first signed in there. */
  function idOfSubject(iss: string, sub: string): string {
    return iss === issuer ? sub : externalUserId(iss, sub)
  }

  /**
   * Finds the user of an account such as `ana@id.example.com`. The whole account may be a name of the user. If the host
   * of the account is that of this server, the part before the `@` may also be the username.
   */
  async function findByAccount(account: string): Promise<User | null> {
    const value = usernameIn(account, issuer)
    const named = await findByName(account)
    return named ?? (value === undefined ? null : findBySubject({ claim: 'preferred_username', value }))
  }

  /**
   * Resolves to the user whom the identifiers identify. Identifiers without a user are ignored. If the identifiers
   * belong to different users, or none has a user, resolves to null. The identifiers are looked up one after the other,
   * so that one call does not take all connections of the database.
   */
  async function findByAliases(identifiers: readonly SubjectIdentifier[]): Promise<User | null> {
    const found: User[] = []
    for (const identifier of identifiers) {
      const user = await findByIdentifier(identifier)
      if (user !== null) found.push(user)
    }
    const [first, ...more] = found
    return first !== undefined && more.every(({ id }) => id === first.id) ? first : null
  }

  return findByIdentifier
}
