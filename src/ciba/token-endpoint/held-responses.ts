/**
 * Keeps the token responses of held polls for some seconds. A client may disconnect while its poll is held, and a proxy
 * may hide the disconnection from the server. Then the response is lost. If the client repeats the poll, it gets the
 * same response (docs/decisions/0031-tokens-given-again.md).
 */
import type { Client } from '../../client/client.ts'
import type { Confirmation } from '../../client/sender-constraint/confirmation.ts'
import { HELD_RESPONSE, type OidcModelStore } from '../../openid-provider/oidc-model-store.ts'
import type { SigningKeys } from '../../openid-provider/signing-keys/signing-keys.ts'
import { type Clock, steadyTime } from '../../platform/clock.ts'
import { fingerprint, type Vault } from '../../platform/crypto.ts'
import { allOf, type Form } from '../../platform/http/form.ts'
import type { Database, Statement } from '../../platform/storage/database.ts'
import type { UserHooks } from '../../user/user.ts'
import type { AuthenticationRequest } from '../authentication-request/authentication-request.ts'
import type { Issued, TokenResponse } from '../tokens/issue-tokens.ts'
import { signAgain } from '../tokens/sign-again.ts'

export interface HeldResponsesNeeds {
  models: Pick<OidcModelStore, 'put' | 'find'>
  /** For how many seconds a response can be sent again. With 0, no response is stored or looked up. */
  repeatSeconds: number
  findUser: UserHooks['find']
  /**
   * Returns the current signing keys. This member is undefined if the operator configured the keys, because Doorbell
   * does not rotate configured keys.
   */
  signingKeys: (() => SigningKeys) | undefined
  database: Pick<Database, 'clockOffset'>
  vault: Vault
  clock: Clock
}

/**
 * Returns from the configuration for how many seconds a response can be sent again. The result is 0 without long
 * polling, because only the responses of held polls are sent again.
 */
export const repeatSecondsOf = ({ longPoll, repeatTokens }: { longPoll: number; repeatTokens: number }): number =>
  longPoll === 0 ? 0 : repeatTokens

/**
 * A poll of an authenticated client. A later poll repeats this poll only if the client, the binding and the parameters
 * `auth_req_id`, `resource` and `authorization_details` are the same.
 */
export interface RepeatablePoll {
  form: Form
  client: Pick<Client, 'id'>
  /** The client certificate or the DPoP key with which the call was made. */
  binding: Confirmation
}

/** Stores and finds the token responses of held polls. */
export interface HeldResponses {
  /** Returns the statement that stores a response, for the transaction that redeems the request. */
  keep(poll: RepeatablePoll, request: AuthenticationRequest, issued: Issued): Statement[]
  /**
   * Resolves to the response that an earlier poll of this redeemed request got, if `poll` repeats that earlier poll.
   * Resolves to undefined in each of these cases:
   * - There is no such response, it is older than `repeatSeconds`, or it cannot be decrypted.
   * - One of its tokens was used, or its grant is no longer valid.
   * - The user does not exist any more or is disabled.
   */
  find(poll: RepeatablePoll, request: AuthenticationRequest): Promise<TokenResponse | undefined>
}

interface Content {
  response: TokenResponse
  /** When the tokens were issued, in milliseconds since 1970, by the clock of the database. */
  issuedAt: number
}

/** Returns the store of the responses to held polls. */
export function createHeldResponses(needs: HeldResponsesNeeds): HeldResponses {
  const { models, repeatSeconds, findUser, signingKeys, database, vault, clock } = needs
  /**
   * The current time by the clock of the database. All nodes use this clock, because the repeated poll may reach
   * another node.
   */
  const present = () => steadyTime(clock) + database.clockOffset

  /**
   * Returns the key under which the response to a poll is stored. A poll with another client, binding or parameter has
   * another key.
   */
  function keyOf({ form, client, binding }: RepeatablePoll): string {
    const { certificate = null, dpopKey = null } = binding
    const share = [allOf(form, 'resource'), form.get('authorization_details') ?? null]
    return vault.keyedHash(
      `held response ${JSON.stringify([client.id, form.get('auth_req_id'), certificate, dpopKey, share])}`,
    )
  }

  /**
   * The encryption key depends on the `auth_req_id`. The database contains only a hash of the `auth_req_id`, except in
   * a ping that is not delivered yet. So somebody who has the database and the configured secret usually cannot decrypt
   * a response.
   */
  const sealingFor = ({ form }: RepeatablePoll) => vault.sealingWith(form.get('auth_req_id')!)

  return {
    keep(poll, request, { response, grantId }) {
      if (repeatSeconds === 0) return []
      const idHash = keyOf(poll)
      const issuedAt = present()
      const content: Content = { response, issuedAt }
      const kept = models.put({
        model: HELD_RESPONSE,
        idHash,
        sealed: sealingFor(poll).seal(JSON.stringify(content), aadOf(idHash)),
        grantHash: fingerprint(grantId),
        uidHash: undefined,
        clientId: request.clientId,
        userId: request.userId,
        requestId: request.id,
        expiresAt: issuedAt + repeatSeconds * 1000,
      })
      return [kept]
    },

    async find(poll, request) {
      if (repeatSeconds === 0) return undefined
      const row = await models.find(HELD_RESPONSE, keyOf(poll), present())
      if (row === undefined) return undefined
      const user = await findUser(request.userId)
      if (user === null || user.disabled) return undefined
      const content = sealingFor(poll).openJson<Content>(row.sealed, aadOf(row.id_hash))
      if (content === undefined) return undefined
      const { response, issuedAt } = content
      const keys = signingKeys?.()
      const signed = (keys && (await signAgain(response, keys))) ?? response
      const elapsedSeconds = Math.max(0, Math.ceil((present() - issuedAt) / 1000))
      return { ...signed, expires_in: Math.max(1, response.expires_in - elapsedSeconds) }
    },
  }
}

const aadOf = (idHash: string) => `oidc_models/${HELD_RESPONSE}/${idHash}`
