/**
 * Passkeys (WebAuthn): users register a passkey, sign in with it, and confirm decisions with it. Every response of an
 * authenticator must answer a challenge of this server. A challenge is issued for one purpose, and is accepted once,
 * within five minutes.
 */
import type {
  AuthenticationResponseJSON,
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
  RegistrationResponseJSON,
} from '@simplewebauthn/server'
import type { OutboxMessage } from '../../outbox/notification.ts'
import type { Clock } from '../../platform/clock.ts'
import { fingerprint, newId } from '../../platform/crypto.ts'
import { basePathOf } from '../../platform/http/base-path.ts'
import type { User } from '../user.ts'
import { type AuthenticatorAnswer, readAnswer } from './authenticator-answer.ts'
import type { PasskeyChallengeStore } from './passkey-challenge-store.ts'
import type { Passkey, PasskeyStore } from './passkey-store.ts'

export interface PasskeyNeeds {
  store: PasskeyStore
  challenges: PasskeyChallengeStore
  /**
   * The host of the issuer is the relying party id of WebAuthn. The origin of the issuer is the only accepted origin.
   */
  issuer: string
  clock: Clock
}

export interface Registering {
  name?: string | undefined
  /** Messages that notify the user, stored in the transaction that stores the passkey. */
  notices: readonly OutboxMessage[]
  /** The hash of the user's access token. The passkey is only added while the token is valid. */
  tokenHash?: string | undefined
}

/** Responses of authenticators are JSON text from the browser. They are untrusted, and verified here. */
export interface Passkeys {
  /**
   * @param known the passkeys that the user already has. The browser does not register a second passkey on an
   *   authenticator that has one of them
   */
  registrationOptions(user: User, known: readonly Passkey[]): Promise<PublicKeyCredentialCreationOptionsJSON>
  /** Registers a passkey. Resolves to undefined if the response is invalid, or a user has this passkey already. */
  register(user: User, response: string, how: Registering): Promise<Passkey | undefined>
  /**
   * Resolves to the options for a sign-in. The options contain no user and no passkey, so they do not reveal which
   * users have a passkey.
   *
   * @param signIn the id of the sign-in
   */
  signInOptions(signIn: string): Promise<PublicKeyCredentialRequestOptionsJSON>
  /**
   * Resolves to the id of the passkey's user if the response is valid. Does not check whether that user may sign in.
   */
  signIn(signIn: string, response: string): Promise<string | undefined>
  /** Resolves to the options for confirming a request, or to undefined if the user has no passkey. */
  confirmOptions(userId: string, requestId: string): Promise<PublicKeyCredentialRequestOptionsJSON | undefined>
  /** Whether the response is valid, comes from a passkey of this user, and was made for this request. */
  confirm(userId: string, requestId: string, response: string): Promise<boolean>
  list(userId: string): Promise<Passkey[]>
  /** Resolves to whether the passkey was renamed. `tokenHash` is the hash of the user's access token. */
  rename(userId: string, id: string, name: string, tokenHash: string | undefined): Promise<boolean>
  /** Resolves to whether the passkey was removed. `tokenHash` is the hash of the user's access token. */
  remove(userId: string, id: string, tokenHash: string | undefined): Promise<boolean>
}

/**
 * The algorithms ES256, EdDSA and RS256 (COSE), which every browser supports. They are listed here because the default
 * list of the library depends on what the runtime supports.
 */
const algorithms = [-7, -8, -257]

/** Milliseconds within which a challenge must be answered. */
const challengeLifeMs = 5 * 60_000

/** Loaded when a passkey is first used, because the library is large: it supports every kind of attestation. */
const webauthn = () => import('@simplewebauthn/server')

export function createPasskeys(needs: PasskeyNeeds): Passkeys {
  const { store, challenges, issuer, clock } = needs
  const { hostname: rpID, origin } = new URL(issuer)
  const around: Around = {
    ...needs,
    always: { rpID, timeout: challengeLifeMs },
    handleOf: (userId) => userHandle(userId, issuer),
    expected: { expectedOrigin: origin, expectedRPID: rpID, requireUserVerification: true },
    async kept(options, purpose) {
      await challenges.keep(options.challenge, purpose, clock.now() + challengeLifeMs)
      return options
    },
  }
  return {
    ...registering(around),
    ...authenticating(around),
    list: (userId) => store.listForUser(userId),
    rename: (userId, id, name, tokenHash) => store.rename(id, userId, name, tokenHash),
    remove: (userId, id, tokenHash) => store.remove(id, userId, tokenHash),
  }
}

interface Around extends PasskeyNeeds {
  /** The members that the options of every challenge contain. */
  always: { rpID: string; timeout: number }
  /** The values that every response of an authenticator must have. */
  expected: { expectedOrigin: string; expectedRPID: string; requireUserVerification: boolean }
  /** Stores the challenge of the options for a purpose. Resolves to the options. */
  kept<Options extends { challenge: string }>(options: Options, purpose: string): Promise<Options>
  /** Returns the user handle of a user, base64url. */
  handleOf(userId: string): string
}

/** Registration of a passkey. */
function registering(around: Around): Pick<Passkeys, 'registrationOptions' | 'register'> {
  const { store, challenges, clock, always, expected, kept, handleOf } = around
  return {
    async registrationOptions(user, known) {
      const userName = user.username ?? user.email ?? user.phone_number ?? user.id
      const { generateRegistrationOptions } = await webauthn()
      const options = await generateRegistrationOptions({
        ...always,
        rpName: 'Doorbell',
        userID: new Uint8Array(Buffer.from(handleOf(user.id), 'base64url')),
        userName,
        userDisplayName: user.name ?? userName,
        attestationType: 'none',
        excludeCredentials: known.map(describe),
        authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
        supportedAlgorithmIDs: algorithms,
      })
      return kept(options, `register:${user.id}`)
    },

    async register(user, response, { name, ...addedWith }) {
      const answer = readAnswer(response)
      if (answer === undefined) return undefined
      if (!(await challenges.take(answer.challenge, `register:${user.id}`, clock.now()))) return undefined
      const { verifyRegistrationResponse } = await webauthn()
      const checked = await unlessItThrows(() =>
        verifyRegistrationResponse({
          ...expected,
          response: answer.whole as RegistrationResponseJSON,
          expectedChallenge: answer.challenge,
          supportedAlgorithmIDs: algorithms,
        }),
      )
      if (!checked?.verified) return undefined
      const { credential } = checked.registrationInfo
      const now = clock.now()
      const passkey: Passkey = {
        id: newId(now),
        userId: user.id,
        credentialId: credential.id,
        publicKey: Buffer.from(credential.publicKey).toString('base64url'),
        counter: credential.counter,
        transports: answer.transports,
        name,
        createdAt: now,
        usedAt: undefined,
      }
      return (await store.add(passkey, addedWith)) ? passkey : undefined
    },
  }
}

/** Authentication with a passkey: to sign in, or to confirm a decision. */
function authenticating(around: Around): Pick<Passkeys, 'signInOptions' | 'signIn' | 'confirmOptions' | 'confirm'> {
  const { store, challenges, clock, always, expected, kept, handleOf } = around

  /**
   * Verifies a response. Resolves to the id of the passkey's user, or to undefined if anything in the response is
   * invalid.
   */
  async function userOf(response: string, purpose: string, mustBe?: string): Promise<string | undefined> {
    const answer = readAnswer(response)
    const passkey = answer && (await store.findByCredential(answer.credentialId))
    if (passkey === undefined || (mustBe !== undefined && passkey.userId !== mustBe)) return undefined
    if (!(await challenges.take(answer!.challenge, purpose, clock.now()))) return undefined
    const counter = await counterOf(answer!, passkey)
    if (counter === undefined || !(await store.markUsed(passkey.id, counter, clock.now()))) return undefined
    return passkey.userId
  }

  async function counterOf(answer: AuthenticatorAnswer, passkey: Passkey): Promise<number | undefined> {
    if (answer.userHandle !== undefined && answer.userHandle !== handleOf(passkey.userId)) return undefined
    const { verifyAuthenticationResponse } = await webauthn()
    const checked = await unlessItThrows(() =>
      verifyAuthenticationResponse({
        ...expected,
        response: answer.whole as AuthenticationResponseJSON,
        expectedChallenge: answer.challenge,
        credential: {
          id: passkey.credentialId,
          publicKey: new Uint8Array(Buffer.from(passkey.publicKey, 'base64url')),
          counter: passkey.counter,
        },
      }),
    )
    return checked?.verified ? checked.authenticationInfo.newCounter : undefined
  }

  return {
    async signInOptions(signIn) {
      const { generateAuthenticationOptions } = await webauthn()
      const options = await generateAuthenticationOptions({ ...always, userVerification: 'required' })
      return kept(options, `sign-in:${signIn}`)
    },

    signIn: (signIn, response) => userOf(response, `sign-in:${signIn}`),

    async confirmOptions(userId, requestId) {
      const allowCredentials = (await store.listForUser(userId)).map(describe)
      if (allowCredentials.length === 0) return undefined
      const { generateAuthenticationOptions } = await webauthn()
      const options = await generateAuthenticationOptions({ ...always, userVerification: 'required', allowCredentials })
      return kept(options, confirming(userId, requestId))
    },

    async confirm(userId, requestId, response) {
      return (await userOf(response, confirming(userId, requestId), userId)) !== undefined
    },
  }
}

const confirming = (userId: string, requestId: string) => `confirm:${userId}:${requestId}`

/**
 * Returns the user handle: always the same for a user, at most 64 bytes, and without information about the user.
 *
 * All issuers on one host have the same RP ID, and an authenticator keeps one passkey for each RP ID and user handle. So
 * issuers that differ only in their paths need different user handles, also if a user has the same id at each of them.
 */
function userHandle(userId: string, issuer: string): string {
  const path = basePathOf(issuer)
  return fingerprint(path === '' ? `passkeys of ${userId}` : `passkeys of ${userId} below ${path}`)
}

function describe({ credentialId, transports }: Passkey) {
  return { id: credentialId, ...(transports.length > 0 && { transports }) }
}

/**
 * Resolves to undefined if the library throws, as it does for any invalid response. `check` must not call the database,
 * because errors of the database would be hidden.
 */
async function unlessItThrows<Result>(check: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await check()
  } catch {
    return undefined
  }
}
