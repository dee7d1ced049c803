/** `doorbell doctor`: checks the whole deployment, and gives advice. */
import type { Command } from 'commander'
import { ConfigError } from '../../config/load.ts'
import { newSecret } from '../../platform/crypto.ts'
import { adviceOnProblem } from '../context/configuration-advice.ts'
import { loadSettings, type SettingOptions, type Settings, withSettings } from '../context/settings.ts'
import { colour, count, examples, print, printJson } from '../context/terminal.ts'
import { examineChannels } from './channels.ts'
import { examineDatabase, isDatabaseMissing } from './database.ts'
import type { Finding } from './finding.ts'
import { examineOthers, examineServer } from './others.ts'
import { examineSettings } from './settings.ts'

interface DoctorOptions extends SettingOptions {
  json?: boolean
}

export function addDoctor(program: Command): void {
  const doctor = program
    .command('doctor')
    .description(
      'Check configuration, database, secret, keys, clock, clients and notifications. Exit code 1 if a check fails.',
    )
    .option('--json', 'answer in JSON')
    .action((_options, command: Command) => run(command.optsWithGlobals()))
  examples(withSettings(doctor), [
    ['npx doorbell doctor --config /etc/doorbell.config.js', 'before and after going live'],
  ])
}

async function run(options: DoctorOptions): Promise<void> {
  const findings = await examine(options)
  const isWell = findings.every(({ state }) => state !== 'fail')
  if (options.json) printJson({ healthy: isWell, findings })
  else print(report(findings))
  process.exitCode = isWell ? 0 : 1
}

async function examine(options: DoctorOptions): Promise<Finding[]> {
  const settings = await readConfiguration(options)
  if (Array.isArray(settings)) return settings
  const { config } = settings
  return [
    { about: 'configuration', state: 'ok', says: describeConfiguration(settings) },
    ...examineSettings(config),
    ...(await examineDatabase(config)),
    ...(await examineServer(config)),
    ...(await examineOthers(config)),
    ...(await examineChannels(config)),
  ]
}

async function readConfiguration(options: DoctorOptions): Promise<Settings | Finding[]> {
  try {
    return await withoutKeepingSecret(options)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map((problem) => ({
      about: 'configuration',
      state: 'fail',
      says: problem,
      advice: adviceOnProblem(problem, options),
    }))
  }
}

/**
 * Loads the configuration. In development, loading usually stores a generated secret in a file. If there is no database
 * yet, this function stores no secret: the first start of a server stores it.
 */
async function withoutKeepingSecret(options: DoctorOptions): Promise<Settings> {
  const first = await loadSettings(options, { secret: newSecret() }).catch(() => undefined)
  if (first?.config.development && isDatabaseMissing(first.config)) return first
  // If the first call of `loadSettings` failed, this call fails too, before a secret is stored. Its error contains all
  // problems.
  return loadSettings(options)
}

function describeConfiguration({ source, config }: Settings): string {
  return `${source}, ${config.development ? 'for development' : 'for production'}, issuer ${config.issuer}`
}

const marks = { ok: '✓', warn: '!', fail: '✗', skipped: '-' }
const colours = { ok: 'green', warn: 'yellow', fail: 'red', skipped: 'dim' } as const

function report(findings: Finding[]): string {
  const width = Math.max(...findings.map(({ about }) => about.length))
  const lines = findings.flatMap(({ about, state, says, advice }) => {
    const mark = colour(colours[state], `${marks[state]} ${state.padEnd(7)}`)
    const margin = ' '.repeat(12 + width)
    return [
      `${mark} ${about.padEnd(width)}  ${says}`,
      ...(advice === undefined ? [] : [colour('dim', `${margin}→ ${advice}`)]),
    ]
  })
  return [...lines, '', verdict(findings)].join('\n')
}

function verdict(findings: Finding[]): string {
  const number = (wanted: Finding['state']) => findings.filter(({ state }) => state === wanted).length
  if (number('fail') > 0) return colour('red', `${count(number('fail'), 'problem')} must be fixed.`)
  if (number('warn') > 0) return colour('yellow', `No errors, ${count(number('warn'), 'warning')}.`)
  return colour('green', 'No problems found.')
}
