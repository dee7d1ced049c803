/** A thread that computes scrypt, one job after the other. Started by `scrypt-threads.ts`. */
import { scryptSync } from 'node:crypto'
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { HASH_BYTES, type ScryptJob, scryptOptions } from './scrypt.ts'

export type ScryptAnswer = { hash: Uint8Array } | { problem: string }

/**
 * The `nice` value of the thread, which gives it a low priority. On a busy processor, the other work of the server is
 * more urgent than passwords.
 */
const niceness = 10

// On Linux each thread has a priority. On other systems the priority would apply to the whole server.
if (process.platform === 'linux') {
  try {
    setPriority(0, niceness)
  } catch {
    // A sandbox may forbid the change of the priority. The thread then keeps the priority of the server.
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
