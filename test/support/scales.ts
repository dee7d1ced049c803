/**
 * Loaded before a server, it logs the memory in use as one line, at each SIGUSR2. The memory of buffers is given back some
 * time after the garbage collection that finds them, so garbage is collected until no more memory is given back.
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
