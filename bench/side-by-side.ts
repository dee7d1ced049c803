/** The workloads that are measured side by side, their results, and the report. */
import type { ClientId } from './cast.ts'
import type { Job, Played } from './parts/load.ts'
import { figure, median, megabytes, table } from './report.ts'

export type ServerName =
  | 'Doorbell, SQLite'
  | 'Doorbell, Postgres'
  | 'oidc-provider, memory'
  | 'oidc-provider, Postgres'
  | 'bare Node HTTP'
  | 'signing alone'

export interface Workload {
  name: string
  title: string
  servers: ServerName[]
  /** The client of the requests that are added before the start. If undefined, the servers start without requests. */
  filledFor?: ClientId
  /** What the load generator does before the first round. It is not measured. */
  before?(server: ServerName): Job['play']
  play(server: ServerName, last: Played | undefined): Job['play']
  /** The ratios of rates, with the required minimum of each. */
  compare: { of: ServerName; to: ServerName; atLeast?: number }[]
}

export interface Round extends Played {
  perSecond: number
  /**
   * Microseconds of CPU time for one operation: `cpu` is that of the server's process, `databaseCpu` that of all
   * processes of Postgres.
   */
  cpu: number
  databaseCpu: number | undefined
}

export interface Measured {
  rounds: Round[]
  /** Memory in bytes: `idle` before the first request, `afterwards` after the last round. */
  idle: number
  afterwards: number
  /** The number of bytes by which the store has grown on average for each operation of the rounds. */
  grown: number | undefined
}

export type Results = Map<ServerName, Measured>

/** Returns Markdown: the ratios of all workloads, then a table for each. */
export function write(all: { workload: Workload; results: Results }[]): string {
  return ['### Ratios', ratios(all), ...all.flatMap(section)].join('\n\n')
}

/** Returns the table of ratios. Each ratio is computed from the two rates of the same round. */
function ratios(all: { workload: Workload; results: Results }[]): string {
  const rows = all.flatMap(({ workload, results }) =>
    workload.compare.map(({ of, to, atLeast }) => {
      const others = results.get(to)!.rounds
      const values = results.get(of)!.rounds.map(({ perSecond }, round) => perSecond / others[round]!.perSecond)
      const holds = atLeast !== undefined && median(values) >= atLeast
      return [
        workload.name,
        `${of} / ${to}`,
        figure(Math.min(...values)),
        figure(median(values)),
        figure(Math.max(...values)),
        atLeast === undefined ? '' : `≥ ${atLeast}`,
        atLeast === undefined ? '' : holds ? 'holds' : 'missed',
      ]
    }),
  )
  return table(['workload', 'rates compared', 'min', 'median', 'max', 'wanted', ''], rows)
}

function section({ workload, results }: { workload: Workload; results: Results }): string[] {
  const rows = [...results].map(([name, { rounds, idle, afterwards, grown }]) => {
    const rates = rounds.map(({ perSecond }) => perSecond)
    const middle = (what: (round: Round) => number | undefined) => {
      const values = rounds.map(what).filter((value) => value !== undefined)
      return values.length === 0 ? undefined : median(values)
    }
    const heldBack = rounds.some((round) => round.heldBack)
    return [
      name + (heldBack ? ' *' : ''),
      figure(Math.min(...rates)),
      figure(median(rates)),
      figure(Math.max(...rates)),
      figure(middle(({ p50 }) => p50)),
      figure(middle(({ p99 }) => p99)),
      figure(middle(({ cpu }) => cpu)),
      figure(middle(({ databaseCpu }) => databaseCpu)),
      megabytes(idle),
      megabytes(afterwards),
      figure(grown),
      figure(middle(({ busy }) => busy * 100)),
    ]
  })
  const head = [
    'server',
    'per second: min',
    'median',
    'max',
    'p50 ms',
    'p99 ms',
    'CPU µs each',
    'Postgres CPU µs each',
    'MB idle',
    'MB after',
    'disk bytes each',
    'generator busy %',
  ]
  const heldBack = [...results.values()].some(({ rounds }) => rounds.some((round) => round.heldBack))
  const note = '\\* The number of requests limited it: all of them had been polled within the interval.'
  return [`### ${workload.name}`, `${workload.title}.`, table(head, rows), ...(heldBack ? [note] : [])]
}
