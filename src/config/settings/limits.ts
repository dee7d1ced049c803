/** Settings of limits on requests and attempts, and of access to the metrics. */
import { isRange, metricsTokenForm } from './formats.ts'
import { list, secretText, section, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

const perClient = setting(
  section({
    open: setting(
      whole('requests', 0, 1_000_000).default(0),
      'How many requests of one client may be open at the same time.',
    ),
    perMinute: setting(
      whole('requests', 0, 1_000_000).default(0),
      'How many requests of one client are accepted within any 60 seconds.',
    ),
    unknownPerMinute: setting(
      whole('requests', 0, 1_000_000).exactOptional(),
      'How often within a minute a client may get the error `unknown_user_id`. After that it has to wait, so that it ' +
        'cannot find out which users exist.',
      { usual: { production: 30, development: 0 } },
    ),
  }).prefault({}),
  'Limits for each client. The operator can override them in the metadata of a client (`limits`).',
)

const perSelfRegisteredClient = setting(
  section({
    open: setting(
      whole('requests', 0, 1_000_000).default(100),
      'How many requests of a client that registered itself may be open at the same time, about all users together.',
    ),
    perMinute: setting(
      whole('requests', 0, 1_000_000).default(60),
      'How many requests of a client that registered itself are accepted within any 60 seconds.',
    ),
  }).prefault({}),
  'Limits for each client that registered itself, in addition to `limits.perClient`. Without them, such a ' +
    'client could fill the database with requests, also about users that it invents.',
)

const signIn = section({
  perName: setting(
    whole('attempts', 1, 1000).default(5),
    'How many attempts to sign in with a password may fail before a pause begins. Attempts are counted separately ' +
      'for each name, for each user, and for each browser in which the user has signed in before.',
  ),
  perAddress: setting(
    whole('attempts', 1, 100_000).default(50),
    'How many attempts to sign in may fail from one IPv4 address or one IPv6 /64 before a pause begins. One attempt ' +
      'is forgotten every ten minutes.',
  ),
  perNetwork: setting(
    whole('attempts', 1, 1_000_000).default(200),
    'How many attempts to sign in may fail from one IPv4 /24 or one IPv6 /48 before a pause begins. One attempt is ' +
      'forgotten every minute.',
  ),
  pause: setting(
    whole('seconds', 1, 3600).default(30),
    'The length of the first pause after failed attempts to sign in. Each further failed attempt doubles the pause.',
  ),
  longestPause: setting(
    whole('seconds', 1, 86_400).default(900),
    'The maximum length of a pause after failed attempts to sign in.',
  ),
  openPerNetwork: setting(
    whole('sign-ins', 1, 100_000).default(100),
    'How many unfinished sign-ins one network may have, in one process. A network is an IPv4 /24 or an IPv6 /64; an ' +
      'IPv6 /48 may have four times as many.',
  ),
  openInAll: setting(
    whole('sign-ins', 1, 1_000_000).default(10_000),
    'How many unfinished sign-ins all networks together may have, in one process.',
  ),
}).prefault({})

export const limitSettings = {
  limits: setting(
    section({
      inFlight: setting(
        whole('calls', 0, 1_000_000).default(1000),
        'How many calls of clients one process handles at the same time. The calls of users have a separate limit of ' +
          'the same size. Calls above these limits are answered with 503 at once.',
      ),
      perUser: section({
        open: setting(whole('requests', 1, 1000).exactOptional(), 'Another name for `requests.maxOpenPerUser`.', {
          usual: { production: 5, development: 5 },
        }),
        perMinute: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests about one user are accepted within any 60 seconds.',
          { usual: { production: 10, development: 0 } },
        ),
      }).prefault({}),
      perClient,
      perSelfRegisteredClient,
      perClientAndUser: section({
        open: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests of one client about one user may be open at the same time.',
          { usual: { production: 2, development: 0 } },
        ),
        perMinute: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests of one client about one user are accepted within any 60 seconds.',
          { usual: { production: 5, development: 0 } },
        ),
      }).prefault({}),
      pauseAfterDenial: section({
        first: setting(
          whole('seconds', 0, 86_400).exactOptional(),
          'How long a client must wait after a denial before its next request about the same user. An unanswered ' +
            'request that was valid for less than a minute counts as a denial. Each further denial doubles the ' +
            'pause, until the user approves a request.',
          { usual: { production: 30, development: 0 } },
        ),
        longest: setting(whole('seconds', 1, 86_400).default(3600), 'The maximum length of a pause after denials.'),
      }).prefault({}),
      signIn,
      streams: section({
        perSession: setting(
          whole('streams', 1, 1000).default(10),
          'How many event streams one session may have open at the same time, in one process.',
        ),
        perUser: setting(
          whole('streams', 1, 1000).default(20),
          'How many event streams all sessions of one user may have open at the same time, in one process.',
        ),
        inAll: setting(
          whole('streams', 1, 1_000_000).default(10_000),
          'How many event streams all users together may have open at the same time, in one process.',
        ),
      }).prefault({}),
    }).prefault({}),
    'Limits of requests and attempts ([metrics.md](reference/metrics.md)). Where 0 is allowed, it means no limit. A ' +
      'request that a limit refuses does not reach the user.',
  ),
  metrics: setting(
    section({
      enabled: setting(
        yesOrNo().exactOptional(),
        'Whether `/metrics` is served: by default in development, and where `metrics.token` or `metrics.from` is set.',
        {
          unlessSet: '`true` in development, or if `metrics.token` or `metrics.from` is set',
          example: 'true',
          isSketch: true,
        },
      ),
      token: setting(
        secretText(metricsTokenForm, (token) => /^[\x21-\x7e]{32,}$/.test(token)).exactOptional(),
        'A bearer token with which the metrics may be read. Preferably set in `DOORBELL_METRICS_TOKEN`.',
        { example: "'preferably-set-in-DOORBELL_METRICS_TOKEN'" },
      ),
      from: setting(
        list('an IP address or a range like "10.0.0.0/8"', isRange).default([]),
        'Addresses and CIDR ranges that may read the metrics without a token. In development, callers on this ' +
          'machine may read them too.',
      ),
    }).prefault({}),
    'Metrics for Prometheus at `/metrics` ([metrics.md](reference/metrics.md)). `metrics: true` and `metrics: false` ' +
      'are short forms of `metrics.enabled`.',
    { shortFor: 'enabled' },
  ),
}
