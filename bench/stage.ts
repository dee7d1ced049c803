/** What the benchmarks stand on: the parts, built; somewhere to keep data; a load generator; a client's key. */
import type { JsonWebKey } from 'node:crypto'
import { exportJWK, generateKeyPair } from 'jose'
import { buildParts, buildPartsOn } from './build.ts'
import { type Part, startPart } from './part.ts'
import type { Job, Played } from './parts/load.ts'
import { openStores, type Stores } from './stores.ts'

export interface BenchStage {
  stores: Stores
  /** Public. */
  assertionKey: JsonWebKey
  /**
   * @param from.parts where the part is taken from, if not from the build of this checkout
   * @param from.program what runs it, if not Node itself
   */
  start(name: string, setup?: unknown, from?: { parts?: URL | undefined; program?: string }): Promise<Part>
  load(job: Job): Promise<Played>
  /** Builds the parts on the server of another commit. @returns where they are */
  buildOn(commit: string): URL
}

/** Everything is let go of when the work ends, in whatever way. */
export async function onStage<Result>(work: (stage: BenchStage) => Promise<Result>): Promise<Result> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  // Told to stop, it cleans up as it does at the end.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))
  const own = buildParts()
  const stores = await openStores()
  const start: BenchStage['start'] = (name, setup = {}, { parts = own, program } = {}) =>
    startPart(parts, name, setup, program)
  try {
    const generator = await start('load', { assertionKey: await exportJWK(privateKey) })
    const assertionKey = (await exportJWK(publicKey)) as JsonWebKey
    try {
      return await work({
        stores,
        assertionKey,
        start,
        load: (job) => generator.ask('run', job),
        buildOn: buildPartsOn,
      })
    } finally {
      await generator.stop()
    }
  } finally {
    await stores.close()
  }
}
