import { type Enqueue, enqueueForOthers } from '../../outbox/enqueue.ts'
import type { OutboxMessage } from '../../outbox/notification.ts'
import { createOutboxStore } from '../../outbox/outbox-store.ts'
import type { Database, Statement } from '../../platform/storage/database.ts'
import type { RowOf } from '../../platform/storage/row.ts'
import { type OnUnreadable, parseStored, throwUnreadable } from '../../platform/unreadable-values.ts'
import { isSignedIn, signOutLock } from '../token-validity-store.ts'

/** A passkey, with which a user signs in and confirms requests. The server stores its public key. */
export interface Passkey {
  id: string
  userId: string
  /** The id that the authenticator gave to the passkey, base64url. */
  credentialId: string
  /** The public key in COSE format, base64url. */
  publicKey: string
  /** How often the passkey was used, according to the authenticator. Always 0 if the authenticator does not count. */
  counter: number
  /** How a browser reaches the authenticator: `internal`, `hybrid`, `usb`, … */
  transports: string[]
  name: string | undefined
  /** Milliseconds since 1970. */
  createdAt: number
  usedAt: number | undefined
}

/** Messages that are sent if a passkey is added, and the hash of the access token that must still be valid. */
export interface AddedWith {
  notices?: readonly OutboxMessage[]
  tokenHash?: string | undefined
}

type PasskeyRow = RowOf<Omit<Passkey, 'transports'>> & { transports: string | null }

export type PasskeyStore = ReturnType<typeof createPasskeyStore>

/** Maximum number of passkeys of one user: each device has one or two. */
export const mostPasskeys = 50

/** Stores the passkeys of users. */
export function createPasskeyStore(
  database: Database,
  enqueue: Enqueue = enqueueForOthers(createOutboxStore(database)),
  onUnreadable = throwUnreadable,
) {
  const toPasskey = (row: PasskeyRow) => readPasskey(row, onUnreadable)

  async function insert(passkey: Passkey, tokenHash: string | undefined, adding: Statement[], topics: string[]) {
    const rows = await database.step(
      {
        sql: `insert into passkeys (id, user_id, credential_id, public_key, counter, transports, name, created_at)
              select $1, $2, $3, $4, cast($5 as bigint), $6, $7, cast($8 as bigint)
              where not exists (select 1 from user_generations where user_id = $2 and is_closed = 1) and ${isSignedIn('$9')}
                and (select count(*) from passkeys where user_id = $2) < ${mostPasskeys}
              on conflict (credential_id) do nothing returning id`,
        values: [
          passkey.id,
          passkey.userId,
          passkey.credentialId,
          passkey.publicKey,
          passkey.counter,
          JSON.stringify(passkey.transports),
          passkey.name ?? null,
          passkey.createdAt,
          tokenHash ?? null,
        ],
      },
      {
        also: adding,
        announce: topics.map((topic) => ({ topic, key: passkey.id })),
        // Without this lock, two simultaneous additions would not count each other's passkey, and the limit could be
        // exceeded. A sign-out takes the same lock, so that `isSignedIn` cannot become false before this transaction
        // ends.
        lockKeys: signOutLock(passkey.userId),
      },
    )
    return rows.length > 0
  }

  return {
    /**
     * Adds a passkey. Resolves to whether the passkey was added. It is not added if a user already has this passkey, or
     * if this user already has `mostPasskeys`. It is also not added if, after the call began, the user was locked or
     * removed, or the access token became invalid.
     *
     * @param with.notices messages about the passkey, sent only if it was added
     * @param with.tokenHash the hash of the user's access token
     */
    add: (passkey: Passkey, { notices = [], tokenHash }: AddedWith = {}): Promise<boolean> =>
      enqueue(notices, (adding, topics) => insert(passkey, tokenHash, adding, topics)),

    /** Removes all passkeys of a user. Resolves to the number of removed passkeys. */
    async removeAllOf(userId: string): Promise<number> {
      const rows = await database.step({
        sql: 'delete from passkeys where user_id = $1 returning id',
        values: [userId],
      })
      return rows.length
    },

    /** Resolves to the passkeys of a user, the oldest first. */
    async listForUser(userId: string): Promise<Passkey[]> {
      const rows = await database.read<PasskeyRow>(
        'select * from passkeys where user_id = $1 order by created_at, id',
        [userId],
      )
      return rows.map(toPasskey)
    },

    async findByCredential(credentialId: string): Promise<Passkey | undefined> {
      const [row] = await database.read<PasskeyRow>('select * from passkeys where credential_id = $1', [credentialId])
      return row && toPasskey(row)
    },

    /**
     * Records a use of a passkey. Resolves to whether the use is valid. It is valid if `counter` is greater than the
     * stored counter, or if both are 0. In all other cases, a copy of the passkey may be in use. If two simultaneous
     * uses have the same counter, one of them is refused.
     */
    async markUsed(id: string, counter: number, now: number): Promise<boolean> {
      const first = {
        sql: `update passkeys set counter = cast($2 as bigint), used_at = $3
              where id = $1 and (counter < cast($2 as bigint) or (counter = 0 and cast($2 as bigint) = 0))
              returning id`,
        values: [id, counter, now],
      }
      return (await database.step(first, { rowKeys: [passkeyKey(id)] })).length > 0
    },

    /**
     * Gives a passkey another name. Resolves to whether it was renamed. It is not renamed if the user has no such
     * passkey, or if the access token is no longer valid.
     */
    async rename(id: string, userId: string, name: string, tokenHash?: string): Promise<boolean> {
      const first = {
        sql: `update passkeys set name = $3 where id = $1 and user_id = $2 and ${isSignedIn('$4')} returning id`,
        values: [id, userId, name, tokenHash ?? null],
      }
      return (await database.step(first, { rowKeys: [passkeyKey(id)] })).length > 0
    },

    /**
     * Removes a passkey. Resolves to whether the passkey was removed. It is not removed if the user has no such
     * passkey, or if the access token is no longer valid.
     */
    async remove(id: string, userId: string, tokenHash?: string): Promise<boolean> {
      const first = {
        sql: `delete from passkeys where id = $1 and user_id = $2 and ${isSignedIn('$3')} returning id`,
        values: [id, userId, tokenHash ?? null],
      }
      return (await database.step(first, { rowKeys: [passkeyKey(id)] })).length > 0
    },
  }
}

const passkeyKey = (id: string) => `passkey ${id}`

/**
 * Returns the transports of a passkey; empty if they cannot be read. Transports are only hints. Without them, the
 * browser offers every way to reach the passkey.
 */
function transportsIn({ id, transports }: PasskeyRow, onUnreadable: OnUnreadable): string[] {
  return transports === null ? [] : (parseStored<string[]>(transports, `passkeys/${id}`, onUnreadable) ?? [])
}

function readPasskey(row: PasskeyRow, onUnreadable: OnUnreadable): Passkey {
  return {
    id: row.id,
    userId: row.user_id,
    credentialId: row.credential_id,
    publicKey: row.public_key,
    counter: row.counter,
    transports: transportsIn(row, onUnreadable),
    name: row.name ?? undefined,
    createdAt: row.created_at,
    usedAt: row.used_at ?? undefined,
  }
}
