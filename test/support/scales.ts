/**
 * A module that is loaded before a server. At each SIGUSR2 it logs the memory in use. The memory of buffers is freed
 * some time after a garbage collection, so garbage is collected until no more memory is freed.
 */
import { setTimeout as pause } from 'node:timers/promises'

const kept = () => {
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

async function weigh(): Promise<void> {
  let before = Number.POSITIVE_INFINITY
  for (let now = kept(); before - now > 10_000; now = kept()) {
    before = now
    for (let times = 0; times < 3; times++) {
      globalThis.gc!()
      await pause(20)
    }
  }
  const { rss: resident } = process.memoryUsage()
  process.stderr.write(`${JSON.stringify({ weighed: { kept: kept(), resident } })}\n`)
}

process.on('SIGUSR2', () => void weigh())
