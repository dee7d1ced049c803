/** `doorbell serve`: runs the provider and its workers until the process is stopped. */
import { type Command, InvalidArgumentError } from 'commander'
import type { Config, ConfigInput } from '../config/config.ts'
import { demoUsers } from '../config/demo.ts'
import { ConfigError, loadConfig } from '../config/load.ts'
import type { Doorbell } from '../doorbell.ts'
import { OtherSecretError } from '../platform/crypto.ts'
import { createLog, type Log } from '../platform/log.ts'
import { Failure, sentence, wordsForProblems } from './context/failure.ts'
import { adviceOnOtherSecret } from './context/other-secret.ts'
import { createReadableLog } from './context/readable-log.ts'
import { configFile, type SettingOptions } from './context/settings.ts'
import { colour, examples, print } from './context/terminal.ts'

interface ServeOptions extends SettingOptions {
  port?: number
  host?: string
  migrate?: boolean
}

export function addServe(program: Command): void {
  const serve = program
    .command('serve')
    .description(
      'Run the provider and its workers. Logs are lines of JSON on standard error; in development, a terminal gets text. Ctrl-C stops it.',
    )
    .option('--port <number>', 'listen on this port; in development it is also used in the issuer', readPort)
    .option('--host <host>', 'listen on this address')
    .option('--demo', 'try Doorbell: development, with demo clients and users')
    .option('--migrate', 'migrate the database to the newest schema first')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(serve, [
    ['npx doorbell serve --demo', 'a complete provider, without a configuration'],
    ['npx doorbell serve --config /etc/doorbell.config.js --migrate', 'in production'],
  ])
}

function readPort(text: string): number {
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port
  throw new InvalidArgumentError('It must be a port number, 1 to 65535.')
}

async function run(options: ServeOptions): Promise<void> {
  const config = await settle(options)
  const readable = isReadable(config) ? createReadableLog() : undefined
  const log = createLog(logLevelFor(config), readable)
  logWarnings(log)
  const stop = expectStop(log, config)
  // Imported here, so that other commands do not load the whole server.
  const { createDoorbell } = await import('../doorbell.ts')
  const doorbell = await createDoorbell(config, { log, migrate: options.migrate ?? false })
    .catch(explainOtherSecret(config))
    .finally(() => readable?.tellChanges())
  await listen(doorbell, config)
  const isGreeted = process.stdout.isTTY
  if (isGreeted) print(greeting(config))
  // This log line is left out if the greeting is shown on the same terminal, because the greeting says the same.
  if (!isGreeted || readable === undefined) {
    log.info({ event: 'server.listening', issuer: config.issuer, host: config.host, port: config.port }, 'listening')
  }

  await doorbell.close({ delay: delayAfter(await stop, config) })
  log.info({ event: 'server.stopped' }, 'stopped')
  process.exit(0)
}

async function settle(options: ServeOptions): Promise<Config> {
  const { config: file, demo, port, host } = options
  const load = (overrides: ConfigInput) => loadConfig({ file, demo, overrides }).catch(explainMissingFile(options))
  const overrides: ConfigInput = { port, host }
  if (port === undefined) return load(overrides)
  const before = await load({ host })
  // The file of "doorbell init" contains the port twice: in `port` and in the issuer. So `--port` also changes the port
  // in the issuer, if the issuer is `http://localhost` with the configured port.
  const follows = before.development && before.issuer === `http://localhost:${before.port}`
  return load({ ...overrides, issuer: follows ? `http://localhost:${port}` : undefined })
}

function explainMissingFile(options: ServeOptions) {
  return (error: unknown): never => {
    if (!(error instanceof ConfigError) || configFile(options) !== undefined) throw error
    throw new Failure(
      `${wordsForProblems(error)}\n\nThere is no doorbell.config.ts here. "npx doorbell init" creates one; "npx doorbell serve --demo" needs none.`,
    )
  }
}

function explainOtherSecret(config: Config) {
  return async (error: unknown): Promise<never> => {
    if (!(error instanceof OtherSecretError)) throw error
    const advice = sentence(await adviceOnOtherSecret(config))
    throw new Failure(`${sentence(error.message)}\n${advice} "npx doorbell doctor" finds out more.`)
  }
}

/**
 * Returns whether the log is text for a developer. In production, or if standard error is not a terminal, programs read
 * the log, so it is JSON.
 */
function isReadable({ development }: Config): boolean {
  return development && process.stderr.isTTY
}

/**
 * Writes warnings of Node and of libraries to the log. Node itself would print them to standard error, between the
 * lines of JSON.
 */
function logWarnings(log: Log): void {
  process.removeAllListeners('warning')
  process.on('warning', (warning) => log.warn({ event: 'process.warning', error: warning }, warning.message))
}

/**
 * Returns the log level. If the demo runs on a terminal and no level is set, the level is `warn`: lines at level info
 * would hide the instructions of the demo.
 */
function logLevelFor({ demo, logLevel }: Config): Config['logLevel'] {
  const isTold = Boolean(process.env.DOORBELL_LOG_LEVEL) || logLevel !== 'info'
  return demo && process.stdout.isTTY && process.stderr.isTTY && !isTold ? 'warn' : logLevel
}

/**
 * The longest time from the first signal to the exit, in milliseconds. Most supervisors allow ten seconds. A long
 * `shutdown.delay` extends this time.
 */
const longestEndMs = 9_500
/** After `shutdown.delay`, the server has at least this many milliseconds until the exit. */
const endAfterDelayMs = 4_500

/**
 * Returns the delay of the shutdown, in seconds. After Ctrl-C on a terminal the delay is 0: a server on a terminal has
 * no load balancer that must notice the shutdown, and the operator waits for the exit.
 */
function delayAfter(signal: NodeJS.Signals, { shutdown }: Config): number {
  return signal === 'SIGINT' && process.stdin.isTTY ? 0 : shutdown.delay
}

/**
 * For this many milliseconds after the first signal, signals of another kind are ignored, because they probably have
 * the same cause: systemd with `SendSIGHUP=yes` sends SIGHUP immediately after SIGTERM, and a terminal that is closed
 * may send several signals.
 */
const sameDecisionMs = 1_000

/**
 * Resolves at the first signal. A second signal ends the process at once. An exception: for `sameDecisionMs`
 * milliseconds after the first signal, a signal of another kind is ignored.
 */
function expectStop(log: Log, config: Config): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let first: { signal: NodeJS.Signals; at: number } | undefined
    const listener = (signal: NodeJS.Signals) => {
      if (first !== undefined) {
        if (signal !== first.signal && performance.now() - first.at < sameDecisionMs) return
        process.exit(130)
      }
      first = { signal, at: performance.now() }
      const delay = delayAfter(signal, config)
      log.info({ event: 'server.stopping', signal, delay }, 'stopping; a second signal stops it at once')
      setTimeout(
        () => {
          log.error({ event: 'server.cut_off' }, 'not all work ended in time; the rest continues at the next start')
          process.exit(1)
        },
        Math.max(longestEndMs, delay * 1000 + endAfterDelayMs),
      )
      resolve(signal)
    }
    process.on('SIGTERM', listener).on('SIGINT', listener).on('SIGHUP', listener)
  })
}

async function listen(doorbell: Doorbell, { host, port }: Config): Promise<void> {
  try {
    await doorbell.listen()
  } catch (error) {
    await doorbell.close()
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    const reason = reasons[code as keyof typeof reasons]
    throw reason === undefined ? error : new Failure(reason(host, port))
  }
}

const reasons = {
  EADDRINUSE(host: string, port: number) {
    const option = `${process.env.npm_lifecycle_event === 'start' ? 'npm start -- ' : ''}--port ${port < 65_535 ? port + 1 : 4000}`
    return `Port ${port} on ${host} is in use. Stop the program that listens there, or use another port: ${option}.`
  },
  EACCES: (_host: string, port: number) =>
    `Port ${port} needs special privileges. Use one above 1023, and a proxy in front of it.`,
  EADDRNOTAVAIL: (host: string) =>
    `This machine does not have the address ${host}. --host 0.0.0.0 means all of its addresses.`,
  ENOTFOUND: (host: string) =>
    `${host} is not an address of this machine. --host 127.0.0.1 accepts connections from this machine only.`,
}

function greeting(config: Config): string {
  const lines = ['', `  ${colour('bold', 'Doorbell')} listens at ${colour('cyan', config.issuer)}`]
  lines.push(`  Users approve at ${colour('cyan', `${config.issuer}/`)}`)
  if (config.development)
    lines.push(`  Mailbox (mails are not sent): ${colour('cyan', `${config.issuer}/dev/mailbox`)}`)
  if (config.demo) lines.push(...demoLines(config))
  return [...lines, '', '  Ctrl-C stops it.', ''].join('\n')
}

function demoLines({ issuer }: Config): string[] {
  const elsewhere = issuer === 'http://localhost:4000' ? '' : ` --issuer ${issuer}`
  const users = demoUsers.map(({ email, password }) => `${email} (password ${password})`).join(', ')
  return [
    `  Demo users: ${users}`,
    `  Demo in a browser: ${colour('cyan', `${issuer}/demo`)}`,
    '',
    '  Or, in a second terminal, as the till:',
    '',
    colour(
      'green',
      `    npx doorbell request --client demo-till --login-hint alice@example.com --binding-message "Coffee 4.20"${elsewhere}`,
    ),
    '',
    "  and in a third one, as Alice's phone:",
    '',
    colour('green', `    npx doorbell device --user alice${elsewhere}`),
  ]
}
