/** Made from the declarations of the settings by `npm run docs:configuration`. */

/** The description of each setting, which editors show. It is combined with the type that contains the settings. */
export type EditorHelp = {
  /** The address at which clients and users reach this server: https, without a slash at the end. It is also the issuer identifier (`iss` in tokens), which clients compare character by character. It may have a path (`docs/guides/proxies.md`). Required outside development. Value: `https://…`; in development also `http://…`. */
  issuer?: unknown
  /** The address to listen on. Keep the default if a proxy on this machine is in front of the server. Value: a host name or an IP address, without scheme and port. */
  host?: unknown
  /** The TCP port to listen on. 0 selects any free port. Value: a port number, 0 to 65535. */
  port?: unknown
  /** For development, on this machine only: allows plain http and notification endpoints on this machine, and serves the mailbox page and `/dev/decide`. With `"exposed"`, other machines may reach the server too; every caller can then decide all requests. Never in production: remove the setting before others can reach the server. Value: `true`, `false`, `"exposed"`. */
  development?: unknown
  /** The database. SQLite is for one process; the path of its file is relative to the configuration file. PostgreSQL is for several processes; several hosts, unix sockets and `sslmode` are written as in libpq (`docs/operating.md`). If the address contains a password, set it in `DOORBELL_DATABASE` instead of the file. Value: "sqlite:<file>", "sqlite::memory:" or "postgres://user:password@host/name". */
  database?: unknown
  postgres?: PostgresHelp | undefined
  /** The keys that encrypt and hash stored values are derived from this secret. Preferably set it in `DOORBELL_SECRET`. In development, a missing secret is generated and kept in a file: with SQLite beside the database, with PostgreSQL in the working directory. Value: at least 32 bytes in base64url, which are 43 characters. */
  secret?: unknown
  /** The profile of the deployment: CIBA Core, or FAPI-CIBA for banks (`docs/fapi-ciba.md`). With `fapi-ciba`, the server does not start if a setting or a client violates the profile. Value: `core`, `fapi-ciba`. */
  profile?: unknown
  /** The lowest level that is logged. Value: `fatal`, `error`, `warn`, `info`, `debug`, `trace`, `silent`. */
  logLevel?: unknown
  /** A folder with texts that replace the texts of Doorbell: one file for each language (`en.json`, `de.json`, …). Value: a folder. */
  texts?: unknown
  /** A function that is called with every event of the audit stream (`docs/audit.md`). An error that it throws is only logged. Value: a function. */
  audit?: unknown
  /** Settings that are passed to oidc-provider unchanged. In `features`, `ttl` and `cookies`, members that are not given keep the values of Doorbell. Must be empty under a profile other than `core`. Value: an object. */
  oidc?: unknown
  shutdown?: ShutdownHelp | undefined
  tls?: TlsHelp | undefined
  hsts?: HstsHelp | undefined
  proxy?: ProxyHelp | undefined
  mutualTls?: MutualTlsHelp | undefined
  /** Whether the `aud` of client assertions must be the issuer and nothing else. FAPI 2.0 and the successor of RFC 7523 require this; CIBA Core §7.1 also allows addresses of endpoints (`docs/decisions/0013-assertion-audience.md`). With the profile `fapi-ciba`, the default is `true`. Value: `true`, `false`. */
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
  /** The resource servers for which clients may request access tokens (RFC 8707), each by the address that clients send as `resource` (`docs/authorization-details.md`). Value: an object of resources by address. */
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
  /** How long finished records are kept. Without a value, `history` and `signedRequests` are kept forever (`docs/operating.md`). */
  retention?: RetentionHelp | undefined
  /** Clients of the configuration; `doorbell client add` registers others. A client has the members of RFC 7591 and CIBA, a `client_secret` if it needs one, and the members that Doorbell adds. Value: a list of objects. */
  clients?: unknown
  /** Users of the configuration; `doorbell user add` adds others. An application that has its own users gives an object of hooks instead: `findByHint`, `find`, `verifyPassword`, `verifyUserCode`, `notify`, `notifyAccount`. Value: a list of objects, or an object of functions. */
  users?: unknown
  registration?: RegistrationHelp | undefined
  login?: LoginHelp | undefined
}

export type PostgresHelp = {
  /** How many connections to Postgres each process opens for its statements. Each process opens one more for `LISTEN`. All connections together must fit into the limits of Postgres and of a pooler (`docs/operating.md`). Value: connections, 2 to 1000. */
  connections?: unknown
}

export type ShutdownHelp = {
  /** How long the server still answers calls after the signal to stop, while `/health/ready` answers 503. It must be longer than load balancers need to notice the 503 (`docs/operating.md`). In development, the default is 0. Value: seconds, 0 to 300. */
  delay?: unknown
}

export type TlsHelp = {
  /** The private key, if this server terminates TLS itself. Value: a file with a PEM key, or its text. */
  key?: unknown
  /** The certificate for `tls.key`, followed by the intermediate certificates up to a certificate authority. Value: a file with a PEM certificate, or its text. */
  cert?: unknown
  /** The certificate authorities that are trusted for clients with `tls_client_auth`. The TLS handshake does not contain the names of these authorities: with them, many clients would send no certificate of another issuer (`docs/decisions/0025-client-certificates.md`). Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type HstsHelp = {
  /** How long browsers use only https for this host: `max-age` of the header `Strict-Transport-Security`, without subdomains and preloading. Every response has this header if the issuer is https, except in development. The default is a year; 0 tells browsers to forget the rule. Value: seconds, 0 to 315 360 000. */
  maxAge?: unknown
}

export type ProxyHelp = {
  /** Addresses and CIDR ranges of the proxies whose `X-Forwarded-*` headers are trusted. `X-Forwarded-For` is read from its right end. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  trust?: unknown
  /** The header in which a proxy in `proxy.trust` passes on the certificate of the client. The proxy must replace this header in every request. `docs/guides/client-certificates.md` lists the forms that are read. Value: the name of a header. */
  clientCertificateHeader?: unknown
  /** The header in which a proxy in `proxy.trust` passes on the rest of the certificate chain, if it is not in `clientCertificateHeader`. If `clientCertificateHeader` is `Client-Cert`, the default is `Client-Cert-Chain`. Value: the name of a header. */
  clientCertificateChainHeader?: unknown
  /** The certificate authorities that are trusted for clients with `tls_client_auth`, if a proxy terminates TLS. Value: a file with PEM certificates, or its text. */
  clientCa?: unknown
}

export type MutualTlsHelp = {
  /** The base address of the endpoints for clients that use certificates, if it differs from `issuer` (`mtls_endpoint_aliases`). Needs `tls` or `proxy.clientCertificateHeader`. Value: an https address. */
  issuer?: unknown
}

export type FetchedKeysHelp = {
  /** If a `jwks_uri` cannot be fetched again, or not now because too many other fetches are in progress, its keys stay valid for this time after the last successful fetch. After that, calls that need these keys are answered with 503. If an attacker makes the `jwks_uri` unreachable or keeps fetches in progress, a key that its owner has removed stays valid just as long. Value: seconds, 0 to 604 800. */
  keepInOutage?: unknown
}

export type DpopHelp = {
  /** Whether DPoP proofs must contain a nonce of the server, so that no proof can be made in advance. Clients may use DPoP in both cases. Value: `true`, `false`. */
  requireNonce?: unknown
}

export type RequestsHelp = {
  /** How long a request is valid if the client does not set `requested_expiry`. Value: seconds, 1 to 1 209 600. */
  defaultExpiry?: unknown
  /** The longest time that a request is valid, even if the client asks for more. Value: seconds, 1 to 1 209 600. */
  maxExpiry?: unknown
  /** The shortest time that a request is valid, even if the client asks for less: the user needs time to read the request. The default is never more than `requests.defaultExpiry`. In development, the default is 1. Value: seconds, 1 to 1 209 600. */
  minExpiry?: unknown
  /** How long a client must wait between two polls. A poll counts as too early only if the time that is left of the interval is longer than half a second and longer than a tenth of the interval. Value: seconds, 1 to 3600. */
  interval?: unknown
  /** Each `slow_down` makes the interval of a request five seconds longer, until the interval has this length. If the client then waits for the longer interval before two polls in a row, `requests.interval` applies again. The default is 30, or `requests.interval` if this is longer. Value: seconds, 1 to 3600. */
  longestInterval?: unknown
  /** The maximum length of a binding message. Value: characters, 1 to 1024. */
  maxBindingMessageLength?: unknown
  /** How long a poll is held while the user has not decided (long polling). With 0, polls are answered at once. A poll is never held for more than 25 seconds, because many clients wait 30 seconds for an answer: a greater number counts as 25, with a warning at the start. Value: seconds, 0 to 25. */
  longPoll?: unknown
  /** The response to a held poll (`requests.longPoll`) may be lost. For this time, a client that repeats the poll gets the same tokens again, unless it has used one of them. With 0, tokens are never sent again. The time should be longer than the pause of clients between two polls. Value: seconds, 0 to 60. */
  repeatTokens?: unknown
  /** How many polls one process holds at the same time. Polls above this limit are answered at once. Value: polls, 1 to 1 000 000. */
  maxHeldPolls?: unknown
  /** How many requests about one user may be open at the same time. `limits.perUser.open` is another name for this setting. Value: requests, 1 to 1000. */
  maxOpenPerUser?: unknown
  /** The response when a hint identifies no user: an error, or, with `pretend`, the same as for a user who never answers. `backchannel_unknown_users` in the metadata of a client overrides this setting. Value: `error`, `pretend`. */
  unknownUsers?: unknown
  /** Whether every authentication request must be signed. A client that registered `backchannel_authentication_request_signing_alg` must always sign. Value: `true`, `false`. */
  requireSigned?: unknown
  /** Whether a user approves by picking, from several numbers, the one that the client shows. This applies if the binding message is a number of two to six digits. With `"required"`, each binding message must be such a number. Value: `true`, `false`, `"required"`. */
  numberMatching?: unknown
}

export type HintsHelp = {
  /** The trusted issuers of `login_hint_token`. Each entry has the `issuer`, its keys (`jwks` or `jwksUri`), the `audience` of its tokens (default: the issuer of this server), its signing `algorithms`, and the claim that identifies the user (`subject`; default: `sub`). Value: a list of objects. */
  tokenIssuers?: unknown
}

export type UserCodesHelp = {
  /** How many wrong user codes one client may send for one user before its codes for this user are refused. Value: tries, 1 to 100. */
  maxTries?: unknown
  /** How many wrong user codes one client may send for all users together before all its codes are refused. Value: tries, 1 to 1 000 000. */
  maxTriesPerClient?: unknown
  /** How many wrong user codes may be sent for one user by clients whose requests this user has never approved, counted for all these clients together. After that, codes of these clients for this user are refused. Must be more than `userCodes.maxTries`. Value: tries, 2 to 1 000 000. */
  maxTriesPerUser?: unknown
  /** How long user codes are refused after the last wrong one, once a limit of `userCodes` is reached. Value: seconds, 1 to 2 592 000. */
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
  /** The algorithm that signs JWT access tokens. It also signs ID tokens for clients of the configuration and of `doorbell client add` that have no `id_token_signed_response_alg`. Clients that register themselves without this member get RS256, the default of the standard. Value: `ES256`, `RS256`, `PS256`. */
  idTokenAlg?: unknown
  /** The scopes that clients may request; `openid` must be among them. `ciba:decide` is always included. Value: a list; each entry is a scope: printable ASCII without spaces. */
  scopes?: unknown
}

export type KeysHelp = {
  /** How long a signing key is published before it signs. Clients may cache a key set for half of this time (`docs/operating.md`). Value: seconds, 60 to 31 536 000. */
  publishAhead?: unknown
  /** How long a key signs until the next key replaces it; 7 776 000 is ninety days. If left out, only `doorbell keys rotate` changes keys. Value: seconds, 3600 to 315 360 000. */
  rotateEvery?: unknown
  /** How long ID tokens are accepted as `id_token_hint` after another key has replaced the key that signed them. Value: seconds, 0 to 315 360 000. */
  keepForHints?: unknown
}

export type AuthorizationDetailsHelp = {
  /** The types of authorization details (RFC 9396) that clients may request. Each type has a schema (of zod, or JSON Schema), texts for users, and the names of the lists from which a user may remove members (`docs/authorization-details.md`). Value: an object of types by their name. */
  types?: unknown
}

export type NotificationsHelp = {
  /** How long an attempt to send a notification to a client or a user may take. Fetches of key sets and other documents of clients may take as long. Value: seconds, 1 to 60. */
  timeout?: unknown
  /** How many attempts are made to send a notification to a client. After that, the notification is parked: it is sent again only if an operator requests it. Notifications to users are retried without this limit, until their deadline. Value: attempts, 1 to 50. */
  attempts?: unknown
  /** Whether calls to clients (notifications, fetches of key sets) may go to addresses of private networks. Outside development, `true` cannot be combined with `registration.mode` `open`: any client could make the server call into your network. Value: `true`, `false`. */
  allowPrivateNetworks?: unknown
  /** Certificate authorities that are trusted for calls to clients, besides those that Node.js trusts. Value: a file with PEM certificates, or its text. */
  ca?: unknown
}

export type EmailHelp = {
  /** The server for mails that notify users (`docs/guides/device-channels.md`). If the address contains a password, set it in `DOORBELL_EMAIL_SMTP` instead of the file. Value: "smtp://user:password@host:port" or "smtps://…", user, password and port as needed. */
  smtp?: unknown
  /** The sender of mails. Value: a mail address, like "no-reply@example.com" or "Doorbell <no-reply@example.com>". */
  from?: unknown
  /** Certificate authorities that are trusted for the mail server, besides those that Node.js trusts. Value: a file with PEM certificates, or its text. */
  ca?: unknown
}

export type WebPushHelp = {
  /** For push messages to browsers: the address at which push services can report problems to the operator. Value: "mailto:" and a mail address, or an https address. */
  subject?: unknown
}

export type DeviceWebhookHelp = {
  /** A service of yours that is called for each authentication request and for each change of the account of a user. Value: an https address, without user name and fragment. */
  url?: unknown
  /** The secret that signs the calls to `deviceWebhook.url`: `whsec_…` as in Standard Webhooks, or any other text. Preferably set in `DOORBELL_DEVICE_WEBHOOK_SECRET`. Value: at least 32 characters. */
  secret?: unknown
}

export type LimitsHelp = {
  /** How many calls of clients one process handles at the same time. The calls of users have a separate limit of the same size. Calls above these limits are answered with 503 at once. Value: calls, 0 to 1 000 000. */
  inFlight?: unknown
  perUser?: LimitsPerUserHelp | undefined
  /** Limits for each client. The operator can override them in the metadata of a client (`limits`). */
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
  /** How many requests about one user are accepted within any 60 seconds. In development, the default is 0. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPerClientHelp = {
  /** How many requests of one client may be open at the same time. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client are accepted within any 60 seconds. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
  /** How often within a minute a client may get the error `unknown_user_id`. After that it has to wait, so that it cannot find out which users exist. In development, the default is 0. Value: requests, 0 to 1 000 000. */
  unknownPerMinute?: unknown
}

export type LimitsPerSelfRegisteredClientHelp = {
  /** How many requests of a client that registered itself may be open at the same time, about all users together. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of a client that registered itself are accepted within any 60 seconds. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPerClientAndUserHelp = {
  /** How many requests of one client about one user may be open at the same time. In development, the default is 0. Value: requests, 0 to 1 000 000. */
  open?: unknown
  /** How many requests of one client about one user are accepted within any 60 seconds. In development, the default is 0. Value: requests, 0 to 1 000 000. */
  perMinute?: unknown
}

export type LimitsPauseAfterDenialHelp = {
  /** How long a client must wait after a denial before its next request about the same user. An unanswered request that was valid for less than a minute counts as a denial. Each further denial doubles the pause, until the user approves a request. In development, the default is 0. Value: seconds, 0 to 86 400. */
  first?: unknown
  /** The maximum length of a pause after denials. Value: seconds, 1 to 86 400. */
  longest?: unknown
}

export type LimitsSignInHelp = {
  /** How many attempts to sign in with a password may fail before a pause begins. Attempts are counted separately for each name, for each user, and for each browser in which the user has signed in before. Value: attempts, 1 to 1000. */
  perName?: unknown
  /** How many attempts to sign in may fail from one IPv4 address or one IPv6 /64 before a pause begins. One attempt is forgotten every ten minutes. Value: attempts, 1 to 100 000. */
  perAddress?: unknown
  /** How many attempts to sign in may fail from one IPv4 /24 or one IPv6 /48 before a pause begins. One attempt is forgotten every minute. Value: attempts, 1 to 1 000 000. */
  perNetwork?: unknown
  /** The length of the first pause after failed attempts to sign in. Each further failed attempt doubles the pause. Value: seconds, 1 to 3600. */
  pause?: unknown
  /** The maximum length of a pause after failed attempts to sign in. Value: seconds, 1 to 86 400. */
  longestPause?: unknown
  /** How many unfinished sign-ins one network may have, in one process. A network is an IPv4 /24 or an IPv6 /64; an IPv6 /48 may have four times as many. Value: sign-ins, 1 to 100 000. */
  openPerNetwork?: unknown
  /** How many unfinished sign-ins all networks together may have, in one process. Value: sign-ins, 1 to 1 000 000. */
  openInAll?: unknown
}

export type LimitsStreamsHelp = {
  /** How many event streams one session may have open at the same time, in one process. Value: streams, 1 to 1000. */
  perSession?: unknown
  /** How many event streams all sessions of one user may have open at the same time, in one process. Value: streams, 1 to 1000. */
  perUser?: unknown
  /** How many event streams all users together may have open at the same time, in one process. Value: streams, 1 to 1 000 000. */
  inAll?: unknown
}

export type MetricsHelp = {
  /** Whether `/metrics` is served: by default in development, and where `metrics.token` or `metrics.from` is set. Value: `true`, `false`. */
  enabled?: unknown
  /** A bearer token with which the metrics may be read. Preferably set in `DOORBELL_METRICS_TOKEN`. Value: at least 32 printable ASCII characters without spaces. */
  token?: unknown
  /** Addresses and CIDR ranges that may read the metrics without a token. In development, callers on this machine may read them too. Value: a list; each entry is an IP address or a range like "10.0.0.0/8". */
  from?: unknown
}

export type RetentionHelp = {
  /** How long authentication requests are kept after they were denied or redeemed, or have expired. A request is kept longer while a token that was issued for it exists. Value: days, 1 to 36 525. */
  requests?: unknown
  /** How long notifications are kept after they were delivered or parked. Value: days, 1 to 36 525. */
  notifications?: unknown
  /** How long decisions are kept in the history, which users can view. Not shorter than `retention.requests`. Value: days, 1 to 36 525. */
  history?: unknown
  /** How long signed authentication requests are kept, unchanged, as evidence. Value: days, 1 to 36 525. */
  signedRequests?: unknown
}

export type RegistrationHelp = {
  /** Whether clients can register themselves: with `token`, only with an initial access token of `doorbell client invite`; with `open`, also without one. Value: `off`, `token`, `open`. */
  mode?: unknown
  /** How many clients one IPv4 address or one IPv6 /64 may register within an hour if `registration.mode` is `open`. One network (IPv4 /24; IPv6 /64 and /48) may make ten times as many attempts. Value: clients, 1 to 100 000. */
  perHour?: unknown
}

export type LoginHelp = {
  /** Where users sign in: at this server (`self`), or at another OpenID provider, given by its issuer. Value: `self`, or an https address. */
  issuer?: unknown
  /** The `client_id` of Doorbell at the provider `login.issuer`. There, register the redirect URI `<issuer>/session/callback`, where `<issuer>` is the `issuer` of Doorbell. Value: a string. */
  client_id?: unknown
  /** The `client_secret` of Doorbell at the provider `login.issuer`. Preferably set in `DOORBELL_LOGIN_CLIENT_SECRET`. Value: a string. */
  client_secret?: unknown
  /** How Doorbell authenticates at the token endpoint of the provider `login.issuer`. Choose `client_secret_post` for a provider that does not decode the header of `client_secret_basic` as RFC 6749 §2.3.1 requires. Value: `client_secret_basic`, `client_secret_post`. */
  token_endpoint_auth_method?: unknown
  /** Whether a person who signs in at the provider `login.issuer`, and has no account here, becomes a user of the built-in directory. If so, everybody who can sign in there can sign in here, except locked and removed users. Value: `true`, `false`. */
  createUsers?: unknown
}
