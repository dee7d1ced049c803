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
      'How often a client may learn that there is no such user; then it has to wait, so that it cannot find out ' +
        'which users exist.',
      { usual: { production: 30, development: 0 } },
    ),
  }).prefault({}),
  'The operator can set other limits in the metadata of a client.',
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
    'Attempts with a password that fail before there is a pause: at a name, at a user, and in a browser in which the ' +
      'user has signed in before; each is counted separately.',
  ),
  perAddress: setting(
    whole('attempts', 1, 100_000).default(50),
    'The same from an IPv4 address or an IPv6 /64. One attempt is forgotten every ten minutes.',
  ),
  perNetwork: setting(
    whole('attempts', 1, 1_000_000).default(200),
    'The same from an IPv4 /24 or an IPv6 /48. One attempt is forgotten every minute.',
  ),
  pause: setting(whole('seconds', 1, 3600).default(30), 'The first pause. Each further failed attempt doubles it.'),
  longestPause: setting(whole('seconds', 1, 86_400).default(900), 'The longest pause.'),
  openPerNetwork: setting(
    whole('sign-ins', 1, 100_000).default(100),
    'How many unfinished sign-ins one network may have. A network is a /24 or a /64; a /48 may have four times ' +
      'as many.',
  ),
  openInAll: setting(whole('sign-ins', 1, 1_000_000).default(10_000), 'The same for all networks, in one process.'),
}).prefault({})

export const limitSettings = {
  limits: setting(
    section({
      inFlight: setting(
        whole('calls', 0, 1_000_000).default(1000),
        'Calls of clients that one process handles at the same time, and as many of users. Further calls are ' +
          'answered with 503 at once.',
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
          'How long a client must wait before it may ask a user again after a denial, or after an unanswered request ' +
            'that expired within a minute: twice as long each time, until an approval.',
          { usual: { production: 30, development: 0 } },
        ),
        longest: setting(whole('seconds', 1, 86_400).default(3600), 'The longest of these pauses.'),
      }).prefault({}),
      signIn,
      streams: section({
        perSession: setting(
          whole('streams', 1, 1000).default(10),
          'Event streams that one session may have open at the same time, in one process.',
        ),
        perUser: setting(whole('streams', 1, 1000).default(20), 'The same for all sessions of one user.'),
        inAll: setting(whole('streams', 1, 1_000_000).default(10_000), 'The same for all users.'),
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
        'Addresses and CIDR ranges that may read the metrics without a token. In development this machine may.',
      ),
    }).prefault({}),
    'Metrics for Prometheus at `/metrics` ([metrics.md](reference/metrics.md)). `metrics: true` and `metrics: false` ' +
      'are short forms of `metrics.enabled`.',
    { shortFor: 'enabled' },
  ),
}
