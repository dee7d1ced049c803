/** The types for users, which the built-in directory and applications with their own users have in common. */
import type { ClientMetadata } from '../client/metadata/client-metadata.ts'

export interface User {
  /** Becomes `sub`: 1 to 255 printable ASCII characters without spaces. Must never be given to another person later. */
  id: string
  email?: string | undefined
  phone_number?: string | undefined
  username?: string | undefined
  name?: string | undefined
  /** BCP 47, e.g. `de` or `en-GB`: the language of pages and messages. */
  locale?: string | undefined
  /** A disabled user gets no requests and cannot decide. */
  disabled?: boolean | undefined
  /** Only for applications with the hook `verifyUserCode`: `false` if this user has no code and needs no code. */
  has_user_code?: boolean | undefined
  /** Additional claims for the ID token and userinfo. Claims of the protocol, such as `acr` and `sub`, are ignored. */
  claims?: Record<string, unknown> | undefined
}

/** The claim of a `login_hint_token` that identifies the user, and the value of this claim. */
export interface HintSubject {
  claim: string
  value: unknown
}

/** A subject identifier (RFC 9493): its format, and the members of this format. */
export interface SubjectIdentifier {
  /** For example `email`, `iss_sub` or `aliases`. */
  format: string
  [member: string]: unknown
}

/** The hint by which a client identifies the user of an authentication request. */
export interface UserHint {
  kind: 'login_hint' | 'id_token_hint' | 'login_hint_token'
  /** As the client sent it. */
  value: string
  /**
   * The verified claims, if the hint is a token. A `login_hint_token` is verified only if `hints.tokenIssuers` is set.
   */
  claims?: Record<string, unknown> | undefined
  /** The subject of a verified `login_hint_token`. */
  subject?: HintSubject | undefined
  /**
   * The subject identifier, if the `login_hint` contains one as JSON. If its format is `iss_sub` and its `iss` is this
   * server, its `sub` is the id of the user, even if the client has pairwise subjects.
   */
  identifier?: SubjectIdentifier | undefined
}

/**
 * A pending authentication request in the form that users and applications may see. It contains nothing that helps to
 * get the tokens.
 */
export interface PendingRequest {
  request_id: string
  user_id: string
  client: {
    client_id: string
    client_name?: string | undefined
    logo_uri?: string | undefined
    /** Whether the client registered itself: its identity was not checked. */
    self_registered?: true
    /** The hosts of the client's addresses, if the client registered itself. */
    hosts?: string[]
  }
  scope: string
  /**
   * The claims that the client requests with the parameter `claims` (OpenID Connect Core §5.5). Claims that the client
   * must not get are left out.
   */
  claims?: object | undefined
  /** The user compares this message with the message that the client shows (CIBA Core §7.1). */
  binding_message?: string | undefined
  /** The authorization details of the request (RFC 9396). */
  authorization_details?: readonly object[] | undefined
  /** The resources of the tokens (RFC 8707). */
  resource?: readonly string[] | undefined
  acr_values?: string | undefined
  /** Seconds since 1970. */
  created_at: number
  /** Seconds since 1970. */
  expires_at: number
}

/**
 * A report of a change to a user's account, such as a new passkey. The user is notified, because such a change could
 * give another person access. The report contains no secret.
 */
export interface AccountChange {
  /** The id of the change. It is the same in each delivery, so that repeated deliveries can be recognised. */
  id: string
  type: 'passkey.added' | 'password.set' | 'user_code.set'
  user_id: string
  /** The browser and the system with which the change was made, if known. */
  browser?: string | undefined
  /** Seconds since 1970. */
  changed_at: number
  /** The address where the user can revoke access that the user has not granted. */
  link: string
}

/**
 * The hooks by which an application supplies its own users. They are called for every request, so their results may
 * change at any time. If there is no user, `findByHint` and `find` may also return undefined, as plain JavaScript does.
 */
export interface UserHooks {
  /** Resolves to the user that the hint identifies, or null. */
  findByHint(hint: UserHint, client: ClientMetadata): Promise<User | null>
  /** Resolves to the user with this id, or null. */
  find(id: string): Promise<User | null>
  /** Whether this is the user's password. Without this hook, no user can sign in on Doorbell's own pages. */
  verifyPassword?(user: User, password: string): Promise<boolean>
  /**
   * Whether this is the user's code. Tries are counted before the hook is called. Without this hook, no user has a user
   * code.
   */
  verifyUserCode?(user: User, code: string): Promise<boolean>
  /**
   * Notifies a user of a pending request in the application's own way. If the hook throws, it is called again. So it
   * may be called more than once for one request.
   */
  notify?(request: PendingRequest, user: User): Promise<void>
  /**
   * Notifies a user of a change to the account. If the hook throws, it is called again, so it may be called more than
   * once for one change. Without this hook, the application does not learn of such changes.
   */
  notifyAccount?(change: AccountChange, user: User): Promise<void>
}

/** A user that the configuration lists. */
export interface ConfiguredUser extends Omit<User, 'has_user_code'> {
  /** In clear text, as in the configuration file. Only a hash of the password is stored in the database. */
  password?: string | undefined
  /**
   * Whether this user is the same person as a removed user with this id. If so, the user sees the decisions that were
   * made before the removal. The setting has an effect only at the first start after the user is listed again.
   */
  same_person?: boolean | undefined
  /** In clear text, as in the configuration file. Valid until the user sets or removes a code. */
  user_code?: string | undefined
}
