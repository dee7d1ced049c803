/**
 * Threads that compute scrypt. Node's own asynchronous scrypt runs in libuv's four threads, where signatures, file
 * access and DNS look-ups would wait until it has finished.
 */
import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Scrypt, ScryptJob } from './scrypt.ts'
import type { ScryptAnswer } from './scrypt-thread.ts'

export interface ScryptThreads {
  /** Computes in an idle or a new thread. If all allowed threads are busy, waits until one is idle. */
  scrypt: Scrypt
  /** Returns the number of threads. */
  count(): number
  /** Stops all threads. The promises of jobs in progress are rejected. */
  close(): Promise<void>
}

/**
 * The program of a thread, in the same folder and language as this file: TypeScript in a checkout, JavaScript in the
 * package.
 */
const program = new URL(`./scrypt-thread${extname(import.meta.url)}`, import.meta.url)

/**
 * Maximum number of hashes that are computed at the same time. Each computation takes 128 MiB of memory. With two
 * processors, only one is used for hashes. The low priority of the threads is not enough to protect a database on the
 * same machine, because the system may share the processors between processes regardless of this priority.
 */
export const HASHES_AT_ONCE = availableParallelism() > 2 ? 2 : 1

export function createScryptThreads(atOnce = HASHES_AT_ONCE): ScryptThreads {
  const threads = new Set<Worker>()
  const idle: Worker[] = []
  const waiting: (() => void)[] = []
  let atWork = 0
  let isClosed = false

  async function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    if (atWork < atOnce) atWork += 1
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) atWork -= 1
      else next()
    }
  }

  function start(): Worker {
    const thread = new Worker(program, { name: 'scrypt' })
    threads.add(thread)
    // Without a listener, an error of the thread would end the process. If the thread has a job, `compute` rejects the
    // job. If it has no job, nothing is lost, and a new thread is started for a later job.
    thread.on('error', () => {})
    thread.once('exit', () => {
      threads.delete(thread)
      if (idle.includes(thread)) idle.splice(idle.indexOf(thread), 1)
    })
    return thread
  }

  async function compute(thread: Worker, job: ScryptJob): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<ScryptAnswer>()
    const end = (code: number) => reject(new Error(`a thread that computes scrypt ended (${code})`))
    thread.once('message', resolve).once('error', reject).once('exit', end)
    // Only a thread with work to do keeps the process alive.
    thread.ref()
    thread.postMessage(job)
    try {
      const answer = await promise
      if ('problem' in answer) throw new Error(`scrypt failed: ${answer.problem}`)
      return answer.hash
    } finally {
      thread.off('message', resolve).off('error', reject).off('exit', end)
      thread.unref()
    }
  }

  return {
    scrypt: (job) =>
      inTurn(async () => {
        if (isClosed) throw new Error('the threads that compute scrypt have been closed')
        const thread = idle.pop() ?? start()
        try {
          return await compute(thread, job)
        } finally {
          if (threads.has(thread)) idle.push(thread)
        }
      }),
    count: () => threads.size,
    async close() {
      isClosed = true
      await Promise.all([...threads].map((thread) => thread.terminate()))
    },
  }
}
