/** What `doorbell init` writes. Explanations start with "// ", settings to switch on with "//" and no space. */
import { newSecret } from '../platform/crypto.ts'

export interface TemplateChoices {
  issuer?: string
  port?: number
  /** `sqlite:…` or `postgres://…` */
  database?: string
}

/** The text of a commented `doorbell.config.ts`. It imports types only, so it loads wherever it lies. */
export function configTemplate(choices: TemplateChoices = {}): string {
  const port = choices.port ?? 4000
  const issuer = choices.issuer ?? `http://localhost:${port}`
  const database = choices.database ?? 'sqlite:./doorbell.db'
  return `import type { ConfigInput } from 'doorbell-ciba'

// Every setting can also be an environment variable: requests.defaultExpiry is DOORBELL_REQUESTS_DEFAULT_EXPIRY.
// The environment wins. Lines that start with //name: show the default, or an example where there is none; take the
// slashes away to change it.

export default {
  // Takes plain http, callbacks on this machine, and has a mailbox page.
  // Take this line out before anybody else can reach the server.
  development: true,

  // The address everybody reaches this server by: https://… without a slash at the end. It is the server's name,
  // too: clients compare it letter by letter, and tokens carry it.
  issuer: ${quote(issuer)},

  // Where it listens. Leave it on this machine if a proxy stands before it.
  //host: '127.0.0.1',
  port: ${port},

  // One process: sqlite:<file>, relative to this file. Several: postgres://user:password@host/name
  // A database address with a password is better kept in DOORBELL_DATABASE.
  database: ${quote(database)},

  // The secret comes from DOORBELL_SECRET. In development one is kept beside the database.

  // What the deployment keeps to: 'core', or 'fapi-ciba' for banks (docs/fapi-ciba.md), which is refused with a
  // setting or a client that breaks it.
  //profile: 'core',

  // TLS of its own, in PEM files; clientCa: whose word is good for clients with tls_client_auth.
  // tls: { key: 'server.key', cert: 'server.crt', clientCa: 'clients-ca.crt' },

  // Proxies whose X-Forwarded-* headers are believed: addresses or ranges, e.g. ['10.0.0.0/8']. With a
  // clientCertificateHeader, the certificates of clients are read from there.
  //proxy: { trust: [] },

  // Where clients with certificates find the same endpoints, if that is another address (needs one of the two above):
  // mutualTls: { issuer: 'https://mtls.example.com' },

  // Whether assertions of clients must name the issuer, and nothing else, as their audience. In fapi-ciba they must.
  //strictAssertionAudience: false,

  // Clients may bind their tokens to a key of theirs (DPoP). Whether the proof of it has to hold a nonce of ours.
  //dpop: { requireNonce: false },

  //requests: {
    // Seconds a request waits for its user if the client does not say, and at most.
    //defaultExpiry: 600,
    //maxExpiry: 86_400,
    // Outside development also: minExpiry: 30, the seconds it waits at least.
    // Seconds a client pauses between two polls.
    //interval: 5,
    // Seconds a poll is held while its user has not decided: 0 answers at once, up to 30. And how many at a time.
    //longPoll: 0,
    //maxHeldPolls: 10_000,
    // Characters.
    //maxBindingMessageLength: 128,
    // How many requests of one user may wait at the same time.
    //maxOpenPerUser: 5,
    // What a client hears whose hint leads to nobody: 'error', or 'pretend' that somebody is asked who never answers.
    //unknownUsers: 'error',
    // Whether every request has to be signed. A client that registers an algorithm signs in any case.
    //requireSigned: false,
    // Whether users pick the number that the client shows; 'required': every binding message has to be one.
    //numberMatching: false,
  //},

  // How much may be asked, and tried. 0 is no limit.
  //limits: {
    // Outside development also: perUser: { perMinute: 10 }, perClientAndUser: { open: 2, perMinute: 5 }, and a client
    // whose request was denied, or ran out unanswered within a minute, waits before it may ask that user again:
    // pauseAfterDenial: { first: 30, longest: 3600 } seconds.
    // Of one client in all. unknownPerMinute: how often it is told that nobody is there, 30 outside development.
    //perClient: { open: 0, perMinute: 0 },
    // Attempts that fail for one name, and from one address, before they pause; seconds.
    //signIn: { perName: 5, perAddress: 50, perNetwork: 200, pause: 30, longestPause: 900, openPerNetwork: 100, openInAll: 10000 },
    // Calls that one process has in work at the same time; more are answered 503.
    //inFlight: 1000,
    // Pages that listen for news at the same time.
    //streams: { perSession: 10, perUser: 20, inAll: 10_000 },
  //},

  // Days that finished requests and notifications are kept. The consent history and signed requests are kept for ever,
  // unless history: 3650 and signedRequests: 3650, say, tell otherwise.
  //retention: { requests: 30, notifications: 30 },

  // Numbers for Prometheus at /metrics: for whoever brings the token, or comes from these addresses.
  //metrics: { token: 'better-kept-in-DOORBELL_METRICS_TOKEN', from: [] },

  // Who may say in a login_hint_token which user is meant, with which keys, and in which claim.
  //hints: { tokenIssuers: [{ issuer: 'https://finder.example', jwksUri: 'https://finder.example/keys', subject: 'sub' }] },

  // Wrong user codes before no code passes for a while: of one client about one user, of one client about all users, and
  // about one user of all clients together that this user has never approved.
  //userCodes: { maxTries: 5, maxTriesPerClient: 100, maxTriesPerUser: 20, lockSeconds: 900 },

  // Seconds users stay signed in: without using it, and since they were authenticated.
  //sessions: { idleTtl: 86_400, absoluteTtl: 1_209_600 },

  //tokens: {
    // Seconds.
    //accessTtl: 600,
    //idTtl: 3600,
    //refreshTtl: 1_209_600,
    // ES256, RS256 or PS256.
    //idTokenAlg: 'ES256',
    //scopes: ['openid', 'profile', 'email', 'phone', 'offline_access'],
  //},

  //keys: {
    // Seconds a new signing key is published before it signs; clients may keep a key set for half of that.
    //publishAhead: 3600,
    // rotateEvery, in seconds, lets keys change by themselves: 7_776_000 is ninety days. Else: "doorbell keys rotate".
    // Seconds that ID tokens are good as hints after their key has signed its last.
    //keepForHints: 31_536_000,
  //},

  // What clients may ask for exactly (RFC 9396), each type with its schema, of zod or JSON, and its words.
  //authorizationDetails: {
    //types: {
      //account_information: {
        //schema: { type: 'object', properties: { accounts: { type: 'array' } }, additionalProperties: false },
        //describe: { en: 'See your accounts {{accounts}}' },
        // The lists of which a user may leave members out.
        //narrow: ['accounts'],
      //},
    //},
  //},

  // Services that tokens may be for (RFC 8707), by the address clients name.
  //resources: { 'https://api.example.com': {} },

  // Whether clients register themselves: 'off', 'token' ("doorbell client invite"), or 'open' to anybody.
  //registration: { mode: 'off', perHour: 10 },

  // Seconds for which browsers that were here use https only; 0 lets them forget it. Not in development.
  //hsts: { maxAge: 31536000 },

  // Seconds it still serves after the signal to end, saying that it is not ready: as long as balancers take to hear of it.
  // Outside development 5.
  //shutdown: { delay: 0 },

  // Where users sign in: here, or at another OpenID provider, with client_id and client_secret.
  //login: { issuer: 'self' },

  // Hears of every event (docs/audit.md).
  // audit: (event) => myTrail.append(event),

  //notifications: {
    // Seconds a client has to answer a ping or push, and how often it is tried.
    //timeout: 5,
    //attempts: 8,
    // Whether clients may live in a private network. Then registration is not "open": strangers could reach into it.
    //allowPrivateNetworks: false,
    // ca: a PEM file of authorities that are trusted besides the usual ones.
  //},

  // How users hear of requests; without any of these their app has to ask. A password in the address is better
  // kept in DOORBELL_EMAIL_SMTP.
  //email: { smtp: 'smtp://localhost:25', from: 'Doorbell <no-reply@example.com>' },
  // Push messages to browsers. Push services write there if something is wrong with what we send.
  //webPush: { subject: 'mailto:ops@example.com' },
  // A service of yours that hears of every request; the secret has at least 32 characters.
  //deviceWebhook: { url: 'https://bank.example/doorbell', secret: 'better in DOORBELL_DEVICE_WEBHOOK_SECRET' },

  // A folder of texts that replace Doorbell's own: en.json, de.json, …
  //texts: './texts',

  // Passed to oidc-provider as it is.
  //oidc: {},

  // fatal, error, warn, info, debug, trace or silent.
  //logLevel: 'info',

  // Clients that are always there; "doorbell client add" registers others. The fields are those of RFC 7591 and CIBA.
  clients: [
    //{
      //client_id: 'till',
      //client_name: 'My Till',
      //client_secret: 'make one with: openssl rand -base64 32',
      //backchannel_token_delivery_mode: 'poll',
    //},
  ],

  // People who are always there; "doorbell user add" adds others. Or an object of hooks that ask your own
  // application: { findByHint, find, verifyPassword, verifyUserCode, notify, notifyAccount }.
  users: [
    //{ username: 'alice', email: 'alice@example.com', name: 'Alice', locale: 'en', password: 'choose one' },
  ],
} satisfies ConfigInput
`
}

/** The text of an `.env` file with a fresh secret. Not for a repository. */
export function environmentTemplate(secret: string = newSecret()): string {
  return `# Doorbell does not read this file by itself. Whatever starts it does:
#   node --env-file=.env node_modules/doorbell-ciba/bin/doorbell.js serve
# Keep it out of the repository. Whoever has the secret and the database can read everything in it; without the
# secret the database is worth nothing, so keep a copy in a safe place.

# At least 32 bytes, base64url. Never change it while the database is in use.
DOORBELL_SECRET=${secret}

# Whatever differs from machine to machine:
#DOORBELL_ISSUER=https://id.example.com
#DOORBELL_DATABASE=postgres://doorbell:password@localhost/doorbell
#DOORBELL_HOST=127.0.0.1
#DOORBELL_PORT=4000
#DOORBELL_LOG_LEVEL=info
`
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`
}
