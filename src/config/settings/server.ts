/** Settings of the server itself. */
import { z } from 'zod'
import type { AuditEvent } from '../../platform/audit.ts'
import { expectation, isPlain } from '../../platform/validation.ts'
import { databaseForms, databaseHint, isDatabase, isHost, isSecret, secretForm, secretHint } from './formats.ts'
import { choice, number, secretText, section, text, whole, yesOrNo } from './kinds.ts'
import { setting } from './setting.ts'

export const serverSettings = {
  issuer: setting(
    // Every text is accepted here. The valid form of the issuer depends on other settings, so rules.ts checks it.
    secretText('an address', () => true).exactOptional(),
    'The address at which clients and users reach this server: https, without a slash at the end. It is also the ' +
      'issuer identifier (`iss` in tokens), which clients compare character by character. It may have a path ' +
      '([guides/proxies.md](guides/proxies.md)). Required outside development.',
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
    'For development, on this machine only: allows plain http and notification endpoints on this machine, and serves ' +
      'the mailbox page and `/dev/decide`. With `"exposed"`, other machines may reach the server too; every caller ' +
      'can then decide all requests. Never in production: remove the setting before others can reach the server.',
  ),
  database: setting(
    secretText(databaseForms(), isDatabase, databaseHint).default('sqlite:./doorbell.db'),
    'The database. SQLite is for one process; the path of its file is relative to the configuration file. PostgreSQL ' +
      'is for several processes; several hosts, unix sockets and `sslmode` are written as in libpq ' +
      '([operating.md](operating.md)). If the address contains a password, set it in ' +
      '`DOORBELL_DATABASE` instead of the file.',
    { example: "'postgres://doorbell:password@localhost/doorbell'" },
  ),
  postgres: section({
    connections: setting(
      whole('connections', 2, 1000).default(10),
      'How many connections to Postgres each process opens for its statements. Each process opens one more for ' +
        '`LISTEN`. All connections together must fit into the limits of Postgres and of a pooler ' +
        '([operating.md](operating.md)).',
    ),
  }).prefault({}),
  secret: setting(
    secretText(secretForm(), isSecret, secretHint).exactOptional(),
    'The keys that encrypt and hash stored values are derived from this secret. Preferably set it in ' +
      '`DOORBELL_SECRET`. In development, a missing secret is generated and kept in a file: with SQLite ' +
      'beside the database, with PostgreSQL in the working directory.',
    { unlessSet: 'generated in development' },
  ),
  profile: setting(
    choice(['core', 'fapi-ciba']).default('core'),
    'The profile of the deployment: CIBA Core, or FAPI-CIBA for banks ([fapi-ciba.md](fapi-ciba.md)). With ' +
      '`fapi-ciba`, the server does not start if a setting or a client violates the profile.',
  ),
  logLevel: setting(
    choice(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    'The lowest level that is logged.',
  ),
  texts: setting(
    text('a folder', (folder) => folder !== '').exactOptional(),
    'A folder with texts that replace the texts of Doorbell: one file for each language (`en.json`, `de.json`, …).',
    { example: "'./texts'" },
  ),
  audit: setting(
    z
      .custom<(event: AuditEvent) => unknown>((hook) => typeof hook === 'function', expectation('a function'))
      .exactOptional(),
    'A function that is called with every event of the audit stream ([audit.md](audit.md)). An error that it throws ' +
      'is only logged.',
    { values: 'a function', example: '(event) => myTrail.append(event)', isSketch: true },
  ),
  oidc: setting(
    z.custom<Record<string, unknown>>(isPlain, expectation('an object')).default({}),
    'Settings that are passed to oidc-provider unchanged. In `features`, `ttl` and `cookies`, members that are not ' +
      'given keep the values of Doorbell. Must be empty under a profile other than `core`.',
    { values: 'an object' },
  ),
  shutdown: section({
    delay: setting(
      whole('seconds', 0, 300).exactOptional(),
      'How long the server still answers calls after the signal to stop, while `/health/ready` answers 503. It must ' +
        'be longer than load balancers need to notice the 503 ([operating.md](operating.md)).',
      { usual: { production: 5, development: 0 }, unlessSet: '5; in development 0' },
    ),
  }).prefault({}),
}
