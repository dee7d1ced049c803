/** How much may be asked, and tried; and who may read the numbers. */
import { isRange, metricsTokenForm } from './formats.ts'
import { list, secretText, section, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

const perClient = setting(
  section({
    open: setting(
      whole('requests', 0, 1_000_000).default(0),
      'How many requests of one client may wait at the same time.',
    ),
    perMinute: setting(
      whole('requests', 0, 1_000_000).default(0),
      'How many requests of one client are accepted within any sixty seconds.',
    ),
    unknownPerMinute: setting(
      whole('requests', 0, 1_000_000).exactOptional(),
      'How often a client is told that there is no such user; then it waits, so that it cannot find out who exists.',
      { usual: { production: 30, development: 0 } },
    ),
  }).prefault({}),
  'Clients can have limits of their own, in their metadata.',
)

const signIn = section({
  perName: setting(
    whole('attempts', 1, 1000).default(5),
    'Attempts with a password that fail before there is a pause: at a name, at a user, and in a browser in which the ' +
      'user has signed in before; each by itself.',
  ),
  perAddress: setting(
    whole('attempts', 1, 100_000).default(50),
    'The same from an IPv4 address or an IPv6 /64. One is forgotten every ten minutes.',
  ),
  perNetwork: setting(
    whole('attempts', 1, 1_000_000).default(200),
    'The same from an IPv4 /24 or an IPv6 /48. One is forgotten every minute.',
  ),
  pause: setting(
    whole('seconds', 1, 3600).default(30),
    'The first pause. Each further attempt that fails makes it twice as long.',
  ),
  longestPause: setting(whole('seconds', 1, 86_400).default(900), 'The longest pause.'),
  openPerNetwork: setting(
    whole('sign-ins', 1, 100_000).default(100),
    'Sign-ins that one network (/24; /64, and four times as many of a /48) may have begun and not ended.',
  ),
  openInAll: setting(whole('sign-ins', 1, 1_000_000).default(10_000), 'The same for all networks, at one process.'),
}).prefault({})

export const limitSettings = {
  limits: setting(
    section({
      inFlight: setting(
        whole('calls', 0, 1_000_000).default(1000),
        'Calls of clients that one process works on at the same time, and as many of users. Each one beyond is ' +
          'answered 503 at once.',
      ),
      perUser: section({
        open: setting(whole('requests', 1, 1000).exactOptional(), 'Another name of `requests.maxOpenPerUser`.', {
          usual: { production: 5, development: 5 },
        }),
        perMinute: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests about one user are accepted within any sixty seconds.',
          { usual: { production: 10, development: 0 } },
        ),
      }).prefault({}),
      perClient,
      perClientAndUser: section({
        open: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests of one client about one user may wait at the same time.',
          { usual: { production: 2, development: 0 } },
        ),
        perMinute: setting(
          whole('requests', 0, 1_000_000).exactOptional(),
          'How many requests of one client about one user are accepted within any sixty seconds.',
          { usual: { production: 5, development: 0 } },
        ),
      }).prefault({}),
      pauseAfterDenial: section({
        first: setting(
          whole('seconds', 0, 86_400).exactOptional(),
          'How long a client waits before it may ask a user again who denied it, or who left a request unanswered that ' +
            'expired within a minute: twice as long each time, until an approval.',
          { usual: { production: 30, development: 0 } },
        ),
        longest: setting(whole('seconds', 1, 86_400).default(3600), 'The longest of these pauses.'),
      }).prefault({}),
      signIn,
      streams: section({
        perSession: setting(
          whole('streams', 1, 1000).default(10),
          'Pages of one session that listen for news at the same time, at one process.',
        ),
        perUser: setting(whole('streams', 1, 1000).default(20), 'The same, of all sessions of one user.'),
        inAll: setting(whole('streams', 1, 1_000_000).default(10_000), 'The same, of all users.'),
      }).prefault({}),
    }).prefault({}),
    'How much may be asked, and tried ([metrics.md](reference/metrics.md)). Where 0 is allowed, it is no limit. What a limit of ' +
      'requests refuses does not reach the user.',
  ),
  metrics: setting(
    section({
      enabled: setting(
        yesOrNo().exactOptional(),
        'Whether `/metrics` is there: in development, and where `metrics.token` or `metrics.from` names a reader.',
        { unlessSet: 'where somebody may read it', example: 'true', isSketch: true },
      ),
      token: setting(
        secretText(metricsTokenForm, (token) => /^[\x21-\x7e]{32,}$/.test(token)).exactOptional(),
        'A bearer token with which the numbers may be read. It is better kept in `DOORBELL_METRICS_TOKEN`.',
        { example: "'better-kept-in-DOORBELL_METRICS_TOKEN'" },
      ),
      from: setting(
        list('an IP address or a range like "10.0.0.0/8"', isRange).default([]),
        'Addresses and CIDR ranges that may read without a token. In development this machine may.',
      ),
    }).prefault({}),
    'Numbers for Prometheus at `/metrics` ([metrics.md](reference/metrics.md)). `metrics: true` and `metrics: false` are short for ' +
      '`metrics.enabled`.',
    { shortFor: 'enabled' },
  ),
}
