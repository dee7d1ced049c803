/** The environment of the benchmarks: built parts, stores, a load generator, and a client's key. */
import type { JsonWebKey } from 'node:crypto'
import { exportJWK, generateKeyPair } from 'jose'
import { buildParts, buildPartsOn } from './build.ts'
import { type Part, startPart } from './part.ts'
import type { Job, Played } from './parts/load.ts'
import { openStores, type Stores } from './stores.ts'

export interface BenchStage {
  stores: Stores
  /** The public key. */
  assertionKey: JsonWebKey
  /**
   * @param from.parts the folder of the part. Default: the build of this checkout
   * @param from.program the program that runs the part. Default: Node
   */
  start(name: string, setup?: unknown, from?: { parts?: URL | undefined; program?: string }): Promise<Part>
  load(job: Job): Promise<Played>
  /** Builds the parts with the server of another commit. @returns the folder of the parts */
  buildOn(commit: string): URL
}

/** Runs `work` with a stage. All resources are released when `work` ends, even if it fails. */
export async function onStage<Result>(work: (stage: BenchStage) => Promise<Result>): Promise<Result> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  // A signal ends the process with `exit`, so that the handlers of `exit` clean up.
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
