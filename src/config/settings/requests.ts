/** Authentication requests, and what says which user they are about. */
import { z } from 'zod'
import { complainAboutKeys } from '../../client/metadata/public-keys.ts'
import { profiles } from '../../platform/security-profile.ts'
import { expectation } from '../../platform/validation.ts'
import { isPlainUrl } from './formats.ts'
import { choice, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

/** In seconds. Timers of Node run for 24 days at most; a request must be able to expire on one. */
const latest = 14 * 86_400

export const requestSettings = {
  requests: section({
    defaultExpiry: setting(
      whole('seconds', 1, latest).default(600),
      'How long a request waits for its user if the client does not say.',
    ),
    maxExpiry: setting(
      whole('seconds', 1, latest).default(86_400),
      'How long a request waits at most, whatever the client says.',
    ),
    minExpiry: setting(
      whole('seconds', 1, latest).exactOptional(),
      'How long a request waits at least, whatever the client says: a user needs time to look at it. Unless set, it is ' +
        'never more than `requests.defaultExpiry`.',
      { usual: { production: 30, development: 1 } },
    ),
    interval: setting(whole('seconds', 1, 3600).default(5), 'How long a client pauses between two polls.'),
    maxBindingMessageLength: setting(whole('characters', 1, 1024).default(128), 'How long a binding message may be.'),
    longPoll: setting(
      whole('seconds', 0, 30).default(0),
      'How long a poll is held while its user has not decided. 0 answers at once.',
    ),
    maxHeldPolls: setting(
      whole('polls', 1, 1_000_000).default(10_000),
      'How many polls one process holds at the same time. Each one beyond is answered at once.',
    ),
    maxOpenPerUser: setting(
      whole('requests', 1, 1000).exactOptional(),
      'How many requests of one user may wait at the same time. `limits.perUser.open` is another name.',
      { usual: { production: 5, development: 5 } },
    ),
    unknownUsers: setting(
      choice(['error', 'pretend']).default('error'),
      'What a client is told when its hint leads to no user: an error, or, with `pretend`, the same as for a user who ' +
        'never answers. `backchannel_unknown_users` of a client wins.',
    ),
    requireSigned: setting(
      yesOrNo().exactOptional(),
      'Whether every request must be signed. A client that registered an algorithm signs in any case.',
      { unlessSet: 'by the profile', example: 'false' },
    ),
    numberMatching: setting(
      yesOrNo('required').default(false),
      'Whether users pick the number that the client shows, where the binding message is one. `"required"`: every ' +
        'binding message must be one.',
    ),
  }).prefault({}),
  hints: section({
    tokenIssuers: setting(
      z.array(tokenIssuer(), expectation('a list of issuers')).default([]),
      'Who may say in a `login_hint_token` which user is meant: the `issuer`, its keys (`jwks` or `jwksUri`), the ' +
        '`audience` it names (this issuer unless set), the `algorithms` it signs with, and the claim with the user ' +
        '(`subject`; `sub` unless set).',
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
      'How many wrong user codes one client may send about one user, before none passes from this client about this user.',
    ),
    maxTriesPerClient: setting(whole('tries', 1, 1_000_000).default(100), 'The same for one client, about all users.'),
    maxTriesPerUser: setting(
      whole('tries', 2, 1_000_000).exactOptional(),
      'The same about one user, for all clients together that this user has never approved. A client that was approved ' +
        'is counted by itself. Must be more than `userCodes.maxTries`.',
      { unlessSet: '4 × `maxTries`', example: '20' },
    ),
    lockSeconds: setting(
      whole('seconds', 1, 30 * 86_400).default(900),
      'How long no code passes, since the last wrong one.',
    ),
  }).prefault({}),
}

function tokenIssuer() {
  return section({
    issuer: text('its "iss": a text', (issuer) => issuer !== ''),
    jwks: z.custom<{ keys: Record<string, unknown>[] }>().superRefine(complainAboutKeys).exactOptional(),
    jwksUri: text('an https address, or http in development', isPlainUrl).exactOptional(),
    audience: text('a text', (audience) => audience !== '').exactOptional(),
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
