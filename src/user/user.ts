/** Who can be asked. The built-in directory and an application's own users both look like this. */
import type { ClientMetadata } from '../client/metadata/client-metadata.ts'

export interface User {
  /** Becomes `sub`: 1 to 255 printable ASCII characters, never given to somebody else later. */
  id: string
  email?: string | undefined
  phone_number?: string | undefined
  username?: string | undefined
  name?: string | undefined
  /** BCP 47, e.g. `de` or `en-GB`: the language of pages and messages. */
  locale?: string | undefined
  /** A disabled user cannot be asked and cannot decide. */
  disabled?: boolean | undefined
  /** With a `verifyUserCode` of your own: `false` if this user has no code and is not asked for one (UC-2). */
  has_user_code?: boolean | undefined
  /** Further claims for the ID token and userinfo. */
  claims?: Record<string, unknown> | undefined
}

/** Which claim of a `login_hint_token` says who is meant, and what it says. */
export interface HintSubject {
  claim: string
  value: unknown
}

/** What a client said about the user it wants to have asked. */
export interface UserHint {
  kind: 'login_hint' | 'id_token_hint' | 'login_hint_token'
  /** As the client sent it. */
  value: string
  /** The checked claims, if the hint is a token. A `login_hint_token` is only checked where `hints.tokenIssuers` are. */
  claims?: Record<string, unknown> | undefined
  /** Of a checked `login_hint_token`. */
  subject?: HintSubject | undefined
}

/** A request that waits for its user, as others are told of it: nothing in it helps anybody to collect the outcome. */
export interface PendingRequest {
  request_id: string
  user_id: string
  client: {
    client_id: string
    client_name?: string | undefined
    logo_uri?: string | undefined
    /** Whether the client registered itself: nobody has checked that it is who it says. */
    self_registered?: true
    /** The hosts of its addresses, if it registered itself. */
    hosts?: string[]
  }
  scope: string
  /** What the user compares with what the client shows. */
  binding_message?: string | undefined
  /** What exactly is asked for (RFC 9396). */
  authorization_details?: readonly object[] | undefined
  /** What the tokens will be for (RFC 8707). */
  resource?: readonly string[] | undefined
  acr_values?: string | undefined
  /** Seconds since 1970. */
  created_at: number
  /** Seconds since 1970. */
  expires_at: number
}

/** A change of a user's account by which somebody else could get in, as others are told of it. Nothing in it is secret. */
export interface AccountChange {
  /** The same when it is told again, so that repeats can be recognised. */
  id: string
  type: 'passkey.added' | 'password.set' | 'user_code.set'
  user_id: string
  /** Which browser on which system it was made with, if known. */
  browser?: string | undefined
  /** Seconds since 1970. */
  changed_at: number
  /** Where the user ends what is not theirs. */
  link: string
}

/** An application's own users. Called for every request, so answers may change at any time. */
export interface UserHooks {
  /** The user a client means, or null. */
  findByHint(hint: UserHint, client: ClientMetadata): Promise<User | null>
  /** The user with this id, or null. */
  find(id: string): Promise<User | null>
  /** Without it nobody can sign in on Doorbell's own pages. */
  verifyPassword?(user: User, password: string): Promise<boolean>
  /** Whether this is the user's code. Wrong ones are counted before it is asked. Without it no user has a user code. */
  verifyUserCode?(user: User, code: string): Promise<boolean>
  /**
   * A way of your own to tell a user that a request waits. What it throws means: try again; so it may be called more
   * than once for one request.
   */
  notify?(request: PendingRequest, user: User): Promise<void>
  /** The same for a change of the user's account. Without it none is told this way. */
  notifyAccount?(change: AccountChange, user: User): Promise<void>
}

/** A user of the configuration's list. */
export interface ConfiguredUser extends Omit<User, 'has_user_code'> {
  /** In clear, as the file has it; hashed before it is stored. */
  password?: string | undefined
  /** In clear, as the file has it. Counts until the user sets or removes a code. */
  user_code?: string | undefined
}
