/** Settings of the server itself. */
import { z } from 'zod'
import type { AuditEvent } from '../../platform/audit.ts'
import { expectation, isPlain } from '../../platform/validation.ts'
import { databaseForms, databaseHint, isDatabase, isHost, isSecret, secretForm, secretHint } from './formats.ts'
import { choice, number, secretText, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

export const serverSettings = {
  issuer: setting(
    // The valid form of the issuer depends on other settings: see rules.ts.
    secretText('an address', () => true).exactOptional(),
    'The address at which clients and users reach this server: https, without a slash at the end. It is also the ' +
      'name of the server: clients compare it character by character, and tokens contain it. Required outside ' +
      'development.',
    {
      values: '`https://…`; in development also `http://…`',
      unlessSet: '`http://localhost:<port>` in development',
      example: "'https://id.example.com'",
    },
  ),
  host: setting(
    text('a host name or an IP address, without scheme and port', isHost).default('127.0.0.1'),
    'The address to listen on. Keep the default if a proxy on this machine is in front of the server.',
  ),
  port: setting(
    number('a port number, 0 to 65535', 0, 65_535).default(4000),
    'The TCP port to listen on. 0 selects any free port.',
  ),
  development: setting(
    yesOrNo('exposed').default(false),
    'For development, on this machine only: plain http and callbacks on this machine, the mailbox page and ' +
      '`/dev/decide`. `"exposed"`: the same on a reachable server, where every caller can then decide all requests. ' +
      'Never in production: remove it before others can reach the server.',
  ),
  database: setting(
    secretText(databaseForms(), isDatabase, databaseHint).default('sqlite:./doorbell.db'),
    'The database: SQLite for one process, its file relative to the configuration file; PostgreSQL for ' +
      'several processes, with several hosts, unix sockets and `sslmode` as in libpq ' +
      '([operating.md](operating.md)). Preferably set an address with a password in ' +
      '`DOORBELL_DATABASE`.',
    { example: "'postgres://doorbell:password@localhost/doorbell'" },
  ),
  postgres: section({
    connections: setting(
      whole('connections', 2, 1000).default(10),
      'How many connections each process opens to Postgres for its statements. One more connection is for `LISTEN`. ' +
        'Together, all processes must stay below the limits of Postgres and of a pooler ' +
        '([operating.md](operating.md)).',
    ),
  }).prefault({}),
  secret: setting(
    secretText(secretForm(), isSecret, secretHint).exactOptional(),
    'Stored values are encrypted and hashed with keys derived from it. Preferably set in `DOORBELL_SECRET`. In ' +
      'development one is generated, and kept beside the database.',
    { unlessSet: 'kept beside the database in development' },
  ),
  profile: setting(
    choice(['core', 'fapi-ciba']).default('core'),
    'The profile of the deployment: CIBA Core, or FAPI-CIBA for banks ([fapi-ciba.md](fapi-ciba.md)). Under ' +
      '`fapi-ciba` the server does not start with a setting or a client that breaks it.',
  ),
  logLevel: setting(
    choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    'The lowest level that is logged.',
  ),
  texts: setting(
    text('a folder', (folder) => folder !== '').exactOptional(),
    'A folder with texts that replace the texts of Doorbell, one `<language>.json` each: `en.json`, `de.json`, …',
    { example: "'./texts'" },
  ),
  audit: setting(
    z
      .custom<(event: AuditEvent) => unknown>((hook) => typeof hook === 'function', expectation('a function'))
      .exactOptional(),
    'Called with every event of the audit stream ([audit.md](audit.md)). Errors it throws have no effect.',
    { values: 'a function', example: '(event) => myTrail.append(event)', isSketch: true },
  ),
  oidc: setting(
    z.custom<Record<string, unknown>>(isPlain, expectation('an object')).default({}),
    'Passed to oidc-provider as it is. In `features`, `ttl` and `cookies`, members that are not given keep their ' +
      'values. Must be empty under a profile other than `core`.',
    { values: 'an object' },
  ),
  shutdown: section({
    delay: setting(
      whole('seconds', 0, 300).exactOptional(),
      'How long the server still answers after the signal to stop, while it reports that it is not ready: as long as ' +
        'load balancers need to notice it ([operating.md](operating.md)).',
      { usual: { production: 5, development: 0 }, unlessSet: '5; in development 0' },
    ),
  }).prefault({}),
}
