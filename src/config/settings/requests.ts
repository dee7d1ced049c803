/** Settings of authentication requests, hints and user codes. */
import { z } from 'zod'
import { keysProblem, noUsableKey, onlyKnownKeys } from '../../client/metadata/public-keys.ts'
import { profiles } from '../../platform/security-profile.ts'
import { expectation } from '../../platform/validation.ts'
import { isPlainUrl } from './formats.ts'
import { choice, number, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

/**
 * Upper limit for expiry settings, in seconds. An expiry must fit into one timer, and timers of Node.js last at most 24
 * days.
 */
const latest = 14 * 86_400

export const requestSettings = {
  requests: section({
    defaultExpiry: setting(
      whole('seconds', 1, latest).default(600),
      'How long a request is valid if the client does not set `requested_expiry`.',
    ),
    maxExpiry: setting(
      whole('seconds', 1, latest).default(86_400),
      'The longest time that a request is valid, even if the client asks for more.',
    ),
    minExpiry: setting(
      whole('seconds', 1, latest).exactOptional(),
      'The shortest time that a request is valid, even if the client asks for less: the user needs time to read the ' +
        'request. The default is never more than `requests.defaultExpiry`.',
      { usual: { production: 30, development: 1 } },
    ),
    interval: setting(
      whole('seconds', 1, 3600).default(5),
      'How long a client must wait between two polls. A poll counts as too early only if the time that ' +
        'is left of the interval is longer than half a second and longer than a tenth of the interval.',
    ),
    longestInterval: setting(
      whole('seconds', 1, 3600).exactOptional(),
      'Each `slow_down` makes the interval of a request five seconds longer, until the interval has this length. If ' +
        'the client then waits for the longer interval before two polls in a row, `requests.interval` applies again. ' +
        'The default is 30, or `requests.interval` if this is longer.',
      { usual: { production: 30, development: 30 } },
    ),
    maxBindingMessageLength: setting(
      whole('characters', 1, 1024).default(128),
      'The maximum length of a binding message.',
    ),
    longPoll: setting(
      number('a whole number of seconds, at least 0', 0, Number.MAX_SAFE_INTEGER).default(0),
      'How long a poll is held while the user has not decided (long polling). With 0, polls are answered at once. A poll ' +
        'is never held for more than 25 seconds, because many clients wait 30 seconds for an answer: a greater number ' +
        'counts as 25, with a warning at the start.',
      { values: 'seconds, 0 to 25' },
    ),
    repeatTokens: setting(
      number('a whole number of seconds from 0 to 60', 0, 60).default(10),
      'The response to a held poll (`requests.longPoll`) may be lost. For this time, a client that repeats the poll ' +
        'gets the same tokens again, unless it has used one of them. With 0, tokens are never sent again. The time ' +
        'should be longer than the pause of clients between two polls.',
      { values: 'seconds, 0 to 60' },
    ),
    maxHeldPolls: setting(
      whole('polls', 1, 1_000_000).default(10_000),
      'How many polls one process holds at the same time. Polls above this limit are answered at once.',
    ),
    maxOpenPerUser: setting(
      whole('requests', 1, 1000).exactOptional(),
      'How many requests about one user may be open at the same time. `limits.perUser.open` is another name for this ' +
        'setting.',
      { usual: { production: 5, development: 5 } },
    ),
    unknownUsers: setting(
      choice(['error', 'pretend']).default('error'),
      'The response when a hint identifies no user: an error, or, with `pretend`, the same as for a user who never ' +
        'answers. `backchannel_unknown_users` in the metadata of a client overrides this setting.',
    ),
    requireSigned: setting(
      yesOrNo().exactOptional(),
      'Whether every authentication request must be signed. A client that registered ' +
        '`backchannel_authentication_request_signing_alg` must always sign.',
      { unlessSet: '`false`; in `fapi-ciba` `true`', example: 'false' },
    ),
    numberMatching: setting(
      yesOrNo('required').default(false),
      'Whether a user approves by picking, from several numbers, the one that the client shows. This applies if the ' +
        'binding message is a number of two to six digits. With `"required"`, each binding message must be such a ' +
        'number.',
    ),
  }).prefault({}),
  hints: section({
    tokenIssuers: setting(
      z.array(tokenIssuer(), expectation('a list of issuers')).default([]),
      'The trusted issuers of `login_hint_token`. Each entry has the `issuer`, its keys (`jwks` or `jwksUri`), the ' +
        '`audience` of its tokens (default: the issuer of this server), its signing `algorithms`, and the claim ' +
        'that identifies the user (`subject`; default: `sub`).',
      {
        values: 'a list of objects',
        example:
          "[\n  { issuer: 'https://finder.example', jwksUri: 'https://finder.example/keys', subject: 'sub' },\n]",
      },
    ),
  }).prefault({}),
  userCodes: section({
    maxTries: setting(
      whole('tries', 1, 100).default(5),
      'How many wrong user codes one client may send for one user before its codes for this user are refused.',
    ),
    maxTriesPerClient: setting(
      whole('tries', 1, 1_000_000).default(100),
      'How many wrong user codes one client may send for all users together before all its codes are refused.',
    ),
    maxTriesPerUser: setting(
      whole('tries', 2, 1_000_000).exactOptional(),
      'How many wrong user codes may be sent for one user by clients whose requests this user has never approved, ' +
        'counted for all these clients together. After that, codes of these clients for this user are refused. Must ' +
        'be more than `userCodes.maxTries`.',
      { unlessSet: '4 × `maxTries`', example: '20' },
    ),
    lockSeconds: setting(
      whole('seconds', 1, 30 * 86_400).default(900),
      'How long user codes are refused after the last wrong one, once a limit of `userCodes` is reached.',
    ),
  }).prefault({}),
}

function tokenIssuer() {
  return section({
    issuer: text('its "iss": a string', (issuer) => issuer !== ''),
    jwks: z
      .custom<{ keys: Record<string, unknown>[] }>()
      .superRefine(keysProblem)
      .transform(onlyKnownKeys)
      .refine(({ keys }) => keys.length > 0, { error: noUsableKey })
      .exactOptional(),
    jwksUri: text('an https address, or http in development', isPlainUrl).exactOptional(),
    audience: text('a string', (audience) => audience !== '').exactOptional(),
    algorithms: z
      .array(choice(profiles.core.clientSigning), expectation('a list of algorithms'))
      .min(1, expectation('a list of at least one algorithm'))
      .exactOptional(),
    subject: text('the name of a claim', (claim) => claim !== '').exactOptional(),
  }).superRefine(({ jwks, jwksUri }, context) => {
    if ((jwks === undefined) === (jwksUri === undefined)) {
      context.addIssue({ code: 'custom', message: 'must have either jwks or jwksUri' })
    }
  })
}
