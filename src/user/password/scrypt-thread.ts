/** A thread that computes scrypt, one job after the other. Started by `scrypt-threads.ts`. */
import { scryptSync } from 'node:crypto'
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { HASH_BYTES, type ScryptJob, scryptOptions } from './scrypt.ts'

export type ScryptAnswer = { hash: Uint8Array } | { problem: string }

/** Where the system is asked to give the thread less of a busy processor: tokens go before passwords. */
const niceness = 10

// On Linux a priority is a thread's. Elsewhere it would be the whole server's.
if (process.platform === 'linux') {
  try {
    setPriority(0, niceness)
  } catch {
    // A sandbox may forbid it; then the thread has the priority of the server.
  }
}

parentPort?.on('message', (job: ScryptJob) => parentPort?.postMessage(answerTo(job)))

function answerTo({ secret, salt, cost }: ScryptJob): ScryptAnswer {
  try {
    return { hash: scryptSync(secret, salt, HASH_BYTES, scryptOptions(cost)) }
  } catch (error) {
    return { problem: String(error) }
  }
}
