/** Made from the declarations of the settings by `npm run docs:configuration`. */

/** The description of each setting, which editors show. It is combined with the type that contains the settings. */
export type EditorHelp = {
  /** The address at which clients and users reach this server: https, without a slash at the end. It is also the name of the server: clients compare it character by character, and tokens contain it. Required outside development. Value: `https://…`; in development also `http://…`. */
  issuer?: unknown
  /** The address to listen on. Keep the default if a proxy on this machine is in front of the server. Value: a host name or an IP address, without scheme and port. */
  host?: unknown
  /** The TCP port to listen on. 0 selects any free port. Value: a port number, 0 to 65535. */
  port?: unknown
  /** For development, on this machine only: plain http and callbacks on this machine, the mailbox page and `/dev/decide`. `"exposed"`: the same on a reachable server, where every caller can then decide all requests. Never in production: remove it before others can reach the server. Value: `true`, `false`, `"exposed"`. */
  development?: unknown
  /** The database: SQLite for one process, its file relative to the configuration file; PostgreSQL for several processes, with several hosts, unix sockets and `sslmode` as in libpq (`docs/operating.md`). Preferably set an address with a password in `DOORBELL_DATABASE`. Value: "sqlite:<file>", "sqlite::memory:" or "postgres://user:password@host/name". */
  database?: unknown
  postgres?: PostgresHelp | undefined
  /** Stored values are encrypted and hashed with keys derived from it. Preferably set in `DOORBELL_SECRET`. In development one is generated, and kept beside the database. Value: at least 32 bytes in base64url, which are 43 characters. */
  secret?: unknown
  /** The profile of the deployment: CIBA Core, or FAPI-CIBA for banks (`docs/fapi-ciba.md`). Under `fapi-ciba` the server does not start with a setting or a client that breaks it. Value: `core`, `fapi-ciba`. */
  profile?: unknown
  /** The lowest level that is logged. Value: `fatal`, `error`, `warn`, `info`, `debug`, `trace`, `silent`. */
  logLevel?: unknown
  /** A folder with texts that replace the texts of Doorbell, one `<language>.json` each: `en.json`, `de.json`, … Value: a folder. */
  texts?: unknown
  /** Called with every event of the audit stream (`docs/audit.md`). Errors it throws have no effect. Value: a function. */
  audit?: unknown
  /** Passed to oidc-provider as it is. In `features`, `ttl` and `cookies`, members that are not given keep their values. Must be empty under a profile other than `core`. Value: an object. */
  oidc?: unknown
  shutdown?: ShutdownHelp | undefined
  tls?: TlsHelp | undefined
  hsts?: HstsHelp | undefined
  proxy?: ProxyHelp | undefined
  mutualTls?: MutualTlsHelp | undefined
  /** Whether the `aud` of client assertions must be the issuer and nothing else, as FAPI 2.0 and the successor of RFC 7523 require it, against CIBA Core §7.1 (`docs/decisions/0013-assertion-audience.md`). In `fapi-ciba` it is `true` unless set. Value: `true`, `false`. */
  strictAssertionAudience?: unknown
  fetchedKeys?: FetchedKeysHelp | undefined
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
  /** Mails that notify users of requests. Users can also be notified by `webPush`, `deviceWebhook` or the hook `notify`. Without any of these, the app of the users has to poll. */
  email?: EmailHelp | undefined
  webPush?: WebPushHelp | undefined
  deviceWebhook?: DeviceWebhookHelp | undefined
  /** Limits of requests and attempts (`docs/reference/metrics.md`). Where 0 is allowed, it means no limit. A request that a limit refuses does not reach the user. */
  limits?: LimitsHelp | undefined
  /** Metrics for Prometheus at `/metrics` (`docs/reference/metrics.md`). `metrics: true` and `metrics: false` are short forms of `metrics.enabled`. */
  metrics?: unknown
  /** How long finished records are kept; a record without a setting is kept forever (`docs/operating.md`). */
  retention?: RetentionHelp | undefined
  /** Clients of the configuration; `doorbell client add` registers others. The fields are those of RFC 7591 and CIBA, with `client_secret` where one is needed, and those that Doorbell adds. Value: a list of objects. */
  clients?: unknown
  /** Users of the configuration; `doorbell user add` adds others. Or an object of hooks that call your own application: `findByHint`, `find`, `verifyPassword`, `verifyUserCode`, `notify`, `notifyAccount`. Value: a list of objects, or an object of functions. */
  users?: unknown
  registration?: RegistrationHelp | undefined
  login?: LoginHelp | undefined
}

export type PostgresHelp = {
  /** How many connections each process opens to Postgres for its statements. One more connection is for `LISTEN`. Together, all processes must stay below the limits of Postgres and of a pooler (`docs/operating.md`). Value: connections, 2 to 1000. */
  connections?: unknown
}

export type ShutdownHelp = {
  /** How long the server still answers after the signal to stop, while it reports that it is not ready: as long as load balancers need to notice it (`docs/operating.md`). In development 0 unless set. Value: seconds, 0 to 300. */
  delay?: unknown
}

export type TlsHelp = {
  /** For TLS without a proxy: the private key. Value: a file with a PEM key, or its text. */
  key?: unknown
  /** The certificate for it, followed by the certificates of the chain up to an authority. Value: a file with a PEM certificate, or its text. */
  cert?: unknown
  /** The authorities that are trusted for clients with `tls_client_auth`. The handshake does not contain the names of these authorities, because many clients would then send no certificate of another authority (`docs/decisions/0025-client-certificates.md`). Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type HstsHelp = {
  /** How long browsers use https only: `Strict-Transport-Security` in each response, without subdomains and preloading, where the issuer is https, outside development. The default is a year; 0 tells browsers to forget it. Value: seconds, 0 to 315 360 000. */
  maxAge?: unknown
}

export type ProxyHelp = {
  /** Addresses and CIDR ranges of the proxies whose `X-Forwarded-*` headers are trusted. `X-Forwarded-For` is read from its right end. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  trust?: unknown
  /** The header in which such a proxy passes on the certificate of the client. The proxy must replace this header in every request. `docs/guides/client-certificates.md` lists the forms that are read. Value: the name of a header. */
  clientCertificateHeader?: unknown
  /** The header in which such a proxy passes on the rest of the chain, if it is not in `clientCertificateHeader`. If `clientCertificateHeader` is `Client-Cert`, the default is `Client-Cert-Chain`. Value: the name of a header. */
  clientCertificateChainHeader?: unknown
  /** As `tls.clientCa`, where a proxy terminates TLS. Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type MutualTlsHelp = {
  /** The address at which clients with certificates find the same endpoints, if it differs (`mtls_endpoint_aliases`). Needs `tls` or `proxy.clientCertificateHeader`. Value: an https address. */
  issuer?: unknown
}

export type FetchedKeysHelp = {
  /** If a `jwks_uri` cannot be fetched again, keys that were fetched from it stay valid for this time after the last fetch. After that, calls that need these keys are answered with 503. If an attacker makes the address unreachable, a key that its owner has removed stays valid for the same time. Value: seconds, 0 to 604 800. */
  keepInOutage?: unknown
}

export type DpopHelp = {
  /** Whether DPoP proofs must contain a nonce of the server, so that no proof can be made in advance. Clients may always bind their tokens to a key (DPoP). Value: `true`, `false`. */
  requireNonce?: unknown
}

export type RequestsHelp = {
  /** How long a request is valid if the client does not set `requested_expiry`. Value: seconds, 1 to 1 209 600. */
  defaultExpiry?: unknown
  /** The longest time that a request is valid, even if the client asks for more. Value: seconds, 1 to 1 209 600. */
  maxExpiry?: unknown
  /** The shortest time that a request is valid, even if the client asks for less: a user needs time to look at it. Unless set, it is never more than `requests.defaultExpiry`. In development 1 unless set. Value: seconds, 1 to 1 209 600. */
  minExpiry?: unknown
  /** How long a client must wait between two polls. A poll counts as too early only if it arrives more than a tenth of this time, and more than half a second, before the interval is over. Value: seconds, 1 to 3600. */
  interval?: unknown
  /** Each `slow_down` lengthens the interval of a request by five seconds, up to this number. After two polls in a row that have kept a lengthened interval, `requests.interval` applies again. The default is 30, or `requests.interval` if this is longer. Value: seconds, 1 to 3600. */
  longestInterval?: unknown
  /** The longest binding message. Value: characters, 1 to 1024. */
  maxBindingMessageLength?: unknown
  /** How long a poll is held while the user has not decided (long polling). With 0, polls are answered at once. A poll is never held for more than 25 seconds, because many clients wait 30 seconds for an answer: a greater number counts as 25, with a warning at the start. Value: seconds, 0 to 25. */
  longPoll?: unknown
  /** The answer to a held poll may be lost. If the same client repeats the poll within this time, it gets the same tokens again, until one of them is used. With 0, tokens are never given again. The time should be longer than the pause of clients between two polls. Value: seconds, 0 to 60. */
  repeatTokens?: unknown
  /** How many polls one process holds at the same time. Further polls are answered at once. Value: polls, 1 to 1 000 000. */
  maxHeldPolls?: unknown
  /** How many requests about one user may be open at the same time. `limits.perUser.open` is another name for it. Value: requests, 1 to 1000. */
  maxOpenPerUser?: unknown
  /** The response when a hint identifies no user: an error, or, with `pretend`, the same as for a user who never answers. `backchannel_unknown_users` of a client overrides it. Value: `error`, `pretend`. */
  unknownUsers?: unknown
  /** Whether every request must be signed. A client that registered an algorithm must always sign. Value: `true`, `false`. */
  requireSigned?: unknown
  /** Whether users pick the number that the client shows, if the binding message is a number. `"required"`: each binding message must be a number. Value: `true`, `false`, `"required"`. */
  numberMatching?: unknown
}

export type HintsHelp = {
  /** The trusted issuers of `login_hint_token`: each with its `issuer`, its keys (`jwks` or `jwksUri`), the `audience` of its tokens (this issuer unless set), its signing `algorithms`, and the claim that names the user (`subject`; `sub` unless set). Value: a list of objects. */
  tokenIssuers?: unknown
}

export type UserCodesHelp = {
  /** How many wrong user codes one client may send for one user before its codes for this user are refused. Value: tries, 1 to 100. */
  maxTries?: unknown
  /** The same for one client and all users. Value: tries, 1 to 1 000 000. */
  maxTriesPerClient?: unknown
  /** The same for one user and all clients that this user has never approved, together. A client that was approved is counted separately. Must be more than `userCodes.maxTries`. Value: tries, 2 to 1 000 000. */
  maxTriesPerUser?: unknown
  /** How long codes are refused after the last wrong one. Value: seconds, 1 to 2 592 000. */
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
  /** The algorithm for JWT access tokens. It also applies to ID tokens of clients of the configuration and of `doorbell client add` that name no algorithm. Clients that register themselves and name none get RS256, the default of the standard. Value: `ES256`, `RS256`, `PS256`. */
  idTokenAlg?: unknown
  /** The scopes that clients may request; `openid` must be among them. `ciba:decide` is always included. Value: a list; each entry is a scope: printable ASCII without spaces. */
  scopes?: unknown
}

export type KeysHelp = {
  /** How long a signing key is published before it signs. Clients may cache a key set for half of that time (`docs/operating.md`). Value: seconds, 60 to 31 536 000. */
  publishAhead?: unknown
  /** How long a key signs before the next one does; 7 776 000 is ninety days. If left out, only `doorbell keys rotate` changes keys. Value: seconds, 3600 to 315 360 000. */
  rotateEvery?: unknown
  /** How long ID tokens are accepted as hints after their key has stopped signing. Value: seconds, 0 to 315 360 000. */
  keepForHints?: unknown
}

export type AuthorizationDetailsHelp = {
  /** The types of authorization details (RFC 9396) that clients may request. Each has a schema (of zod, or JSON Schema), texts, and the names of the lists from which a user may remove members (`docs/authorization-details.md`). Value: an object of types by their name. */
  types?: unknown
}

export type NotificationsHelp = {
  /** How long a client has to answer a ping or push. Value: seconds, 1 to 60. */
  timeout?: unknown
  /** How often a notification is tried before it is parked. Value: attempts, 1 to 50. */
  attempts?: unknown
  /** Whether notifications may go to addresses of private networks. Outside development it cannot be combined with `registration.mode` `open`: any client could make the server call into your network. Value: `true`, `false`. */
  allowPrivateNetworks?: unknown
  /** Authorities that are trusted for calls to clients, besides those that Node.js trusts. Value: a file with PEM certificates, or its text. */
  ca?: unknown
}

export type EmailHelp = {
  /** The server for mails that notify users (`docs/guides/device-channels.md`). Preferably set an address with a password in `DOORBELL_EMAIL_SMTP`. Value: "smtp://user:password@host:port" or "smtps://…", user, password and port as needed. */
  smtp?: unknown
  /** The sender of mails. Value: a mail address, like "no-reply@example.com" or "Doorbell <no-reply@example.com>". */
  from?: unknown
  /** Authorities that are trusted for the mail server, besides those that Node.js trusts. Value: a file with PEM certificates, or its text. */
  ca?: unknown
}

export type WebPushHelp = {
  /** For push messages to browsers: where push services can contact the operator about problems. Value: "mailto:" and a mail address, or an https address. */
  subject?: unknown
}

export type DeviceWebhookHelp = {
  /** A service of yours that is called for each request. Value: an https address, without user name and fragment. */
  url?: unknown
  /** The secret that signs these calls: `whsec_…` as in Standard Webhooks, or any other text. Preferably set in `DOORBELL_DEVICE_WEBHOOK_SECRET`. Value: at least 32 characters. */
  secret?: unknown
}

export type LimitsHelp = {
  /** Calls of clients that one process handles at the same time, and as many of users. Further calls are answered with 503 at once. Value: calls, 0 to 1 000 000. */
  inFlight?: unknown
  perUser?: LimitsPerUserHelp | undefined
  /** The operator can set other limits in the metadata of a client. */
  perClient?: LimitsPerClientHelp | undefined
  /** Limits for each client that registered itself, in addition to `limits.perClient`. Without them, such a client could fill the database with requests, also about users that it invents. */
  perSelfRegisteredClient?: LimitsPerSelfRegisteredClientHelp | undefined
  perClientAndUser?: LimitsPerClientAndUserHelp | undefined
  pauseAfterDenial?: LimitsPauseAfterDenialHelp | undefined
  signIn?: LimitsSignInHelp | undefined
  streams?: LimitsStreamsHelp | undefined
}

export type LimitsPerUserHelp = {
  /** Another name for `requests.maxOpenPerUser`. Value: requests, 1 to 1000. */
  open?: unknown
  /** How many requests about one user are accepted within any 60 seconds. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPerClientHelp = {
  /** How many requests of one client may be open at the same time. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client are accepted within any 60 seconds. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
  /** How often a client may learn that there is no such user; then it has to wait, so that it cannot find out which users exist. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  unknownPerMinute?: unknown
}

export type LimitsPerSelfRegisteredClientHelp = {
  /** How many requests of a client that registered itself may be open at the same time, about all users together. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of a client that registered itself are accepted within any 60 seconds. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPerClientAndUserHelp = {
  /** How many requests of one client about one user may be open at the same time. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client about one user are accepted within any 60 seconds. In development 0 unless set. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPauseAfterDenialHelp = {
  /** How long a client must wait before it may ask a user again after a denial, or after an unanswered request that expired within a minute: twice as long each time, until an approval. In development 0 unless set. Value: seconds, 0 to 86 400. */
  first?: unknown
  /** The longest of these pauses. Value: seconds, 1 to 86 400. */
  longest?: unknown
}

export type LimitsSignInHelp = {
  /** Attempts with a password that fail before there is a pause: at a name, at a user, and in a browser in which the user has signed in before; each is counted separately. Value: attempts, 1 to 1000. */
  perName?: unknown
  /** The same from an IPv4 address or an IPv6 /64. One attempt is forgotten every ten minutes. Value: attempts, 1 to 100 000. */
  perAddress?: unknown
  /** The same from an IPv4 /24 or an IPv6 /48. One attempt is forgotten every minute. Value: attempts, 1 to 1 000 000. */
  perNetwork?: unknown
  /** The first pause. Each further failed attempt doubles it. Value: seconds, 1 to 3600. */
  pause?: unknown
  /** The longest pause. Value: seconds, 1 to 86 400. */
  longestPause?: unknown
  /** How many unfinished sign-ins one network may have. A network is a /24 or a /64; a /48 may have four times as many. Value: sign-ins, 1 to 100 000. */
  openPerNetwork?: unknown
  /** The same for all networks, in one process. Value: sign-ins, 1 to 1 000 000. */
  openInAll?: unknown
}

export type LimitsStreamsHelp = {
  /** Event streams that one session may have open at the same time, in one process. Value: streams, 1 to 1000. */
  perSession?: unknown
  /** The same for all sessions of one user. Value: streams, 1 to 1000. */
  perUser?: unknown
  /** The same for all users. Value: streams, 1 to 1 000 000. */
  inAll?: unknown
}

export type MetricsHelp = {
  /** Whether `/metrics` is served: by default in development, and where `metrics.token` or `metrics.from` is set. Value: `true`, `false`. */
  enabled?: unknown
  /** A bearer token with which the metrics may be read. Preferably set in `DOORBELL_METRICS_TOKEN`. Value: at least 32 printable ASCII characters without spaces. */
  token?: unknown
  /** Addresses and CIDR ranges that may read the metrics without a token. In development this machine may. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  from?: unknown
}

export type RetentionHelp = {
  /** Authentication requests after they were denied, redeemed or had expired. Kept longer while their tokens are valid. Value: days, 1 to 36 525. */
  requests?: unknown
  /** Notifications after they were delivered or parked. Value: days, 1 to 36 525. */
  notifications?: unknown
  /** The consent history, which users can view. At least as long as requests. Value: days, 1 to 36 525. */
  history?: unknown
  /** Signed authentication requests as received, as evidence. Value: days, 1 to 36 525. */
  signedRequests?: unknown
}

export type RegistrationHelp = {
  /** Whether clients can register themselves: with a token of `doorbell client invite`, or, with `open`, without one. Value: `off`, `token`, `open`. */
  mode?: unknown
  /** How many clients one address may register in an hour with mode `open`. Its network (/24; /64 and /48) may make ten times as many attempts. Value: clients, 1 to 100 000. */
  perHour?: unknown
}

export type LoginHelp = {
  /** Where users sign in: here, or at another OpenID provider, named by its issuer. Value: `self`, or an https address. */
  issuer?: unknown
  /** The `client_id` of Doorbell there. Value: a string. */
  client_id?: unknown
  /** The `client_secret` of Doorbell there. Preferably set in `DOORBELL_LOGIN_CLIENT_SECRET`. Value: a string. */
  client_secret?: unknown
}
