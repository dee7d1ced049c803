/** Made from the declarations of the settings by `npm run docs:configuration`. */

/** What an editor says of each setting, to be added to a type that has the settings themselves. */
export type EditorHelp = {
  /** The address at which clients and users reach this server: https, without a slash at the end. It is also the name of the server: clients compare it letter by letter, and tokens carry it. Required outside development. Value: `https://…`; in development also `http://…`. */
  issuer?: unknown
  /** The address to listen on. Leave it on this machine where a proxy stands in front of the server. Value: a host name or an IP address, without scheme and port. */
  host?: unknown
  /** The TCP port to listen on. 0 picks any free one. Value: a port number, 0 to 65535. */
  port?: unknown
  /** For development, on this machine only: plain http and callbacks on this machine, the mailbox page and `/dev/decide`. `"exposed"`: the same where others reach the server, who can then decide everything. Never in production: take it out before others can reach the server. Value: `true`, `false`, `"exposed"`. */
  development?: unknown
  /** Where everything is stored: SQLite for one process, its file relative to the configuration file; PostgreSQL for several processes. An address with a password is better kept in `DOORBELL_DATABASE`. Value: "sqlite:<file>", "sqlite::memory:" or "postgres://user:password@host/name". */
  database?: unknown
  /** Everything at rest is encrypted and hashed with keys made from it. It is best kept in `DOORBELL_SECRET`. In development one is made, and kept beside the database. Value: at least 32 bytes in base64url, which are 43 characters. */
  secret?: unknown
  /** What the deployment keeps to: CIBA Core, or FAPI-CIBA for banks (`docs/fapi-ciba.md`). Under `fapi-ciba` the server does not start with a setting or a client that breaks it. Value: `core`, `fapi-ciba`. */
  profile?: unknown
  /** How much is logged. Value: `fatal`, `error`, `warn`, `info`, `debug`, `trace`, `silent`. */
  logLevel?: unknown
  /** A folder with texts that replace the texts of Doorbell, one `<language>.json` each: `en.json`, `de.json`, … Value: a folder. */
  texts?: unknown
  /** Called with every event of the audit stream (`docs/audit.md`). What it throws changes nothing. Value: a function. */
  audit?: unknown
  /** Passed to oidc-provider as it is. In `features`, `ttl` and `cookies`, what is not named stays as it is. Must be empty under a profile other than `core`. Value: an object. */
  oidc?: unknown
  shutdown?: ShutdownHelp | undefined
  tls?: TlsHelp | undefined
  hsts?: HstsHelp | undefined
  proxy?: ProxyHelp | undefined
  mutualTls?: MutualTlsHelp | undefined
  /** Whether the `aud` of client assertions must be the issuer and nothing else, as FAPI 2.0 and the successor of RFC 7523 want it, against CIBA Core §7.1 (`docs/decisions/0013-assertion-audience.md`). In `fapi-ciba` it is `true` unless set. Value: `true`, `false`. */
  strictAssertionAudience?: unknown
  dpop?: DpopHelp | undefined
  requests?: RequestsHelp | undefined
  hints?: HintsHelp | undefined
  userCodes?: UserCodesHelp | undefined
  sessions?: SessionsHelp | undefined
  tokens?: TokensHelp | undefined
  keys?: KeysHelp | undefined
  authorizationDetails?: AuthorizationDetailsHelp | undefined
  /** The services that access tokens may be for (RFC 8707), by the address that clients name (`docs/authorization-details.md`). Value: an object of resources by address. */
  resources?: unknown
  notifications?: NotificationsHelp | undefined
  /** How users are told of requests: by mail, web push, your own service, or the hook `notify`. Without any of them their app has to ask. */
  email?: EmailHelp | undefined
  webPush?: WebPushHelp | undefined
  deviceWebhook?: DeviceWebhookHelp | undefined
  /** How much may be asked, and tried (`docs/reference/metrics.md`). Where 0 is allowed, it is no limit. What a limit of requests refuses does not reach the user. */
  limits?: LimitsHelp | undefined
  /** Numbers for Prometheus at `/metrics` (`docs/reference/metrics.md`). `metrics: true` and `metrics: false` are short for `metrics.enabled`. */
  metrics?: unknown
  /** How long what is finished is kept; what is left out is kept for ever (`docs/operating.md`). */
  retention?: RetentionHelp | undefined
  /** Clients that are always there; `doorbell client add` registers others. Their fields are those of RFC 7591 and CIBA, with `client_secret` where one is needed, and what Doorbell adds. Value: a list of objects. */
  clients?: unknown
  /** Users that are always there; `doorbell user add` adds others. Or an object of hooks that ask your own application: `findByHint`, `find`, `verifyPassword`, `verifyUserCode`, `notify`, `notifyAccount`. Value: a list of objects, or an object of functions. */
  users?: unknown
  registration?: RegistrationHelp | undefined
  login?: LoginHelp | undefined
}

export type ShutdownHelp = {
  /** How long the server still serves after the signal to end, while it says that it is not ready: as long as load balancers take to notice (`docs/operating.md`). In development 0 unless set. Value: seconds, 0 to 300. */
  delay?: unknown
}

export type TlsHelp = {
  /** For TLS without a proxy: the private key. Value: a file with a PEM key, or its text. */
  key?: unknown
  /** The certificate for it, followed by the certificates that lead to an authority. Value: a file with a PEM certificate, or its text. */
  cert?: unknown
  /** The authorities that are trusted for clients with `tls_client_auth`. Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type HstsHelp = {
  /** How long browsers use https only: `Strict-Transport-Security` in every response, without subdomains and preloading, where the issuer is https, outside development. The default is a year; 0 makes browsers forget it. Value: seconds, 0 to 315 360 000. */
  maxAge?: unknown
}

export type ProxyHelp = {
  /** Addresses and CIDR ranges of the proxies whose `X-Forwarded-*` headers are believed. `X-Forwarded-For` is read from its right end. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  trust?: unknown
  /** The header in which such a proxy passes on the certificate that a client showed it. Value: the name of a header. */
  clientCertificateHeader?: unknown
  /** As `tls.clientCa`, where a proxy ends TLS. Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type MutualTlsHelp = {
  /** Where clients with certificates find the same endpoints, if that is another address (`mtls_endpoint_aliases`). Needs `tls` or `proxy.clientCertificateHeader`. Value: an https address. */
  issuer?: unknown
}

export type DpopHelp = {
  /** Clients may bind their tokens to a key of theirs (DPoP). Whether the proofs must hold a nonce of the server, so that none can be made in advance. Value: `true`, `false`. */
  requireNonce?: unknown
}

export type RequestsHelp = {
  /** How long a request waits for its user if the client does not say. Value: seconds, 1 to 1 209 600. */
  defaultExpiry?: unknown
  /** How long a request waits at most, whatever the client says. Value: seconds, 1 to 1 209 600. */
  maxExpiry?: unknown
  /** How long a request waits at least, whatever the client says: a user needs time to look at it. Unless set, it is never more than `requests.defaultExpiry`. In development 1 unless set. Value: seconds, 1 to 1 209 600. */
  minExpiry?: unknown
  /** How long a client pauses between two polls. Value: seconds, 1 to 3600. */
  interval?: unknown
  /** How long a binding message may be. Value: characters, 1 to 1024. */
  maxBindingMessageLength?: unknown
  /** How long a poll is held while its user has not decided. 0 answers at once. Value: seconds, 0 to 30. */
  longPoll?: unknown
  /** How many polls one process holds at the same time. Each one beyond is answered at once. Value: polls, 1 to 1 000 000. */
  maxHeldPolls?: unknown
  /** How many requests of one user may wait at the same time. `limits.perUser.open` is another name. Value: requests, 1 to 1000. */
  maxOpenPerUser?: unknown
  /** What a client is told when its hint leads to no user: an error, or, with `pretend`, the same as for a user who never answers. `backchannel_unknown_users` of a client wins. Value: `error`, `pretend`. */
  unknownUsers?: unknown
  /** Whether every request must be signed. A client that registered an algorithm signs in any case. Value: `true`, `false`. */
  requireSigned?: unknown
  /** Whether users pick the number that the client shows, where the binding message is one. `"required"`: every binding message must be one. Value: `true`, `false`, `"required"`. */
  numberMatching?: unknown
}

export type HintsHelp = {
  /** Who may say in a `login_hint_token` which user is meant: the `issuer`, its keys (`jwks` or `jwksUri`), the `audience` it names (this issuer unless set), the `algorithms` it signs with, and the claim with the user (`subject`; `sub` unless set). Value: a list of objects. */
  tokenIssuers?: unknown
}

export type UserCodesHelp = {
  /** How many wrong user codes one client may send about one user, before none passes from this client about this user. Value: tries, 1 to 100. */
  maxTries?: unknown
  /** The same for one client, about all users. Value: tries, 1 to 1 000 000. */
  maxTriesPerClient?: unknown
  /** The same about one user, for all clients together that this user has never approved. A client that was approved is counted by itself. Must be more than `userCodes.maxTries`. Value: tries, 2 to 1 000 000. */
  maxTriesPerUser?: unknown
  /** How long no code passes, since the last wrong one. Value: seconds, 1 to 2 592 000. */
  lockSeconds?: unknown
}

export type SessionsHelp = {
  /** How long a user stays signed in without using the session. Value: seconds, 60 to 31 536 000. */
  idleTtl?: unknown
  /** How long a user stays signed in after authentication, however often the session is used. Value: seconds, 60 to 31 536 000. */
  absoluteTtl?: unknown
}

export type TokensHelp = {
  /** How long an access token is valid. Value: seconds, 1 to 31 536 000. */
  accessTtl?: unknown
  /** How long an ID token is valid. Value: seconds, 1 to 31 536 000. */
  idTtl?: unknown
  /** How long a refresh token is valid. Value: seconds, 1 to 315 360 000. */
  refreshTtl?: unknown
  /** How ID tokens are signed for clients that do not say, and JWT access tokens. Value: `ES256`, `RS256`, `PS256`. */
  idTokenAlg?: unknown
  /** What clients may ask for; `openid` must be among it. `ciba:decide` is always there and need not be named. Value: a list; each entry is a scope: printable ASCII without spaces. */
  scopes?: unknown
}

export type KeysHelp = {
  /** How long a signing key is published before it signs. Clients may keep a key set for half of that (`docs/operating.md`). Value: seconds, 60 to 31 536 000. */
  publishAhead?: unknown
  /** How long a key signs before the next one does; 7 776 000 is ninety days. Left out, keys are changed by `doorbell keys rotate` only. Value: seconds, 3600 to 315 360 000. */
  rotateEvery?: unknown
  /** How long ID tokens are accepted as hints after their key has signed its last. Value: seconds, 0 to 315 360 000. */
  keepForHints?: unknown
}

export type AuthorizationDetailsHelp = {
  /** What clients may ask for in detail (RFC 9396): each type with its schema (of zod, or JSON Schema), its words, and the lists of which a user may leave members out (`docs/authorization-details.md`). Value: an object of types by their name. */
  types?: unknown
}

export type NotificationsHelp = {
  /** How long a client has to answer a ping or push. Value: seconds, 1 to 60. */
  timeout?: unknown
  /** How often one is tried before it is parked. Value: attempts, 1 to 50. */
  attempts?: unknown
  /** Whether notifications may go to addresses of private networks. Outside development not together with `registration.mode` `open`: strangers could make the server call into your network. Value: `true`, `false`. */
  allowPrivateNetworks?: unknown
  /** Authorities that are trusted for calls to clients, besides those that Node knows. Value: a file with PEM certificates, or its text. */
  ca?: unknown
}

export type EmailHelp = {
  /** The server by which users are told by mail (`docs/guides/device-channels.md`). An address with a password is better kept in `DOORBELL_EMAIL_SMTP`. Value: "smtp://user:password@host:port" or "smtps://…", user, password and port as needed. */
  smtp?: unknown
  /** Who mails come from. Value: a mail address, like "no-reply@example.com" or "Doorbell <no-reply@example.com>". */
  from?: unknown
}

export type WebPushHelp = {
  /** For push messages to browsers: where push services reach the operator if something is wrong with them. Value: "mailto:" and a mail address, or an https address. */
  subject?: unknown
}

export type DeviceWebhookHelp = {
  /** A service of yours that is called with every request. Value: an https address, without user name and fragment. */
  url?: unknown
  /** What these calls are signed with: `whsec_…` as Standard Webhooks has it, or any other text. It is better kept in `DOORBELL_DEVICE_WEBHOOK_SECRET`. Value: at least 32 characters. */
  secret?: unknown
}

export type LimitsHelp = {
  /** Calls of clients that one process works on at the same time, and as many of users. Each one beyond is answered 503 at once. Value: calls, 0 to 1 000 000. */
  inFlight?: unknown
  perUser?: LimitsPerUserHelp | undefined
  /** Clients can have limits of their own, in their metadata. */
  perClient?: LimitsPerClientHelp | undefined
  perClientAndUser?: LimitsPerClientAndUserHelp | undefined
  pauseAfterDenial?: LimitsPauseAfterDenialHelp | undefined
  signIn?: LimitsSignInHelp | undefined
  streams?: LimitsStreamsHelp | undefined
}

export type LimitsPerUserHelp = {
  /** Another name of `requests.maxOpenPerUser`. Value: requests, 1 to 1000. */
  open?: unknown
  /** How many requests about one user are accepted within any sixty seconds. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPerClientHelp = {
  /** How many requests of one client may wait at the same time. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client are accepted within any sixty seconds. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
  /** How often a client is told that there is no such user; then it waits, so that it cannot find out who exists. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  unknownPerMinute?: unknown
}

export type LimitsPerClientAndUserHelp = {
  /** How many requests of one client about one user may wait at the same time. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client about one user are accepted within any sixty seconds. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPauseAfterDenialHelp = {
  /** How long a client waits before it may ask a user again who denied it, or who left a request unanswered that expired within a minute: twice as long each time, until an approval. In development 0 unless set. Value: seconds, 0 to 86 400. */
  first?: unknown
  /** The longest of these pauses. Value: seconds, 1 to 86 400. */
  longest?: unknown
}

export type LimitsSignInHelp = {
  /** Attempts with a password that fail before there is a pause: at a name, at a user, and in a browser in which the user has signed in before; each by itself. Value: attempts, 1 to 1000. */
  perName?: unknown
  /** The same from an IPv4 address or an IPv6 /64. One is forgotten every ten minutes. Value: attempts, 1 to 100 000. */
  perAddress?: unknown
  /** The same from an IPv4 /24 or an IPv6 /48. One is forgotten every minute. Value: attempts, 1 to 1 000 000. */
  perNetwork?: unknown
  /** The first pause. Each further attempt that fails makes it twice as long. Value: seconds, 1 to 3600. */
  pause?: unknown
  /** The longest pause. Value: seconds, 1 to 86 400. */
  longestPause?: unknown
  /** Sign-ins that one network (/24; /64, and four times as many of a /48) may have begun and not ended. Value: sign-ins, 1 to 100 000. */
  openPerNetwork?: unknown
  /** The same for all networks, at one process. Value: sign-ins, 1 to 1 000 000. */
  openInAll?: unknown
}

export type LimitsStreamsHelp = {
  /** Pages of one session that listen for news at the same time, at one process. Value: streams, 1 to 1000. */
  perSession?: unknown
  /** The same, of all sessions of one user. Value: streams, 1 to 1000. */
  perUser?: unknown
  /** The same, of all users. Value: streams, 1 to 1 000 000. */
  inAll?: unknown
}

export type MetricsHelp = {
  /** Whether `/metrics` is there: in development, and where `metrics.token` or `metrics.from` names a reader. Value: `true`, `false`. */
  enabled?: unknown
  /** A bearer token with which the numbers may be read. It is better kept in `DOORBELL_METRICS_TOKEN`. Value: at least 32 printable ASCII characters without spaces. */
  token?: unknown
  /** Addresses and CIDR ranges that may read without a token. In development this machine may. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  from?: unknown
}

export type RetentionHelp = {
  /** Authentication requests after they were denied, redeemed or had expired. Longer, while tokens of them are valid. Value: days, 1 to 36 525. */
  requests?: unknown
  /** Notifications after they were delivered or parked. Value: days, 1 to 36 525. */
  notifications?: unknown
  /** The consent history, which users look back on. At least as long as requests. Value: days, 1 to 36 525. */
  history?: unknown
  /** Signed authentication requests as they were received: evidence. Value: days, 1 to 36 525. */
  signedRequests?: unknown
}

export type RegistrationHelp = {
  /** Whether clients register themselves: with a token of `doorbell client invite`, or `open` to anybody. Value: `off`, `token`, `open`. */
  mode?: unknown
  /** How many clients one address may register in an hour where it is open. Its network (/24; /64 and /48) may try ten times as often. Value: clients, 1 to 100 000. */
  perHour?: unknown
}

export type LoginHelp = {
  /** Where users sign in: here, or at another OpenID provider, named by its issuer. Value: `self`, or an https address. */
  issuer?: unknown
  /** The `client_id` of Doorbell there. Value: a text. */
  client_id?: unknown
  /** The `client_secret` of Doorbell there. It is better kept in `DOORBELL_LOGIN_CLIENT_SECRET`. Value: a text. */
  client_secret?: unknown
}
