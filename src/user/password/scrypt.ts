/** scrypt (RFC 7914): the input and the cost of a computation. Both are plain data, which can be sent to a thread. */
import { scrypt as scryptOfNode } from 'node:crypto'
import { promisify } from 'node:util'

export interface ScryptCost {
  /** A power of two. One computation takes `128 * N * r` bytes of memory. */
  N: number
  r: number
  p: number
}

export interface ScryptJob {
  secret: Uint8Array
  salt: Uint8Array
  cost: ScryptCost
}

/** Computes a job. Resolves to the 32 bytes of its result. */
export type Scrypt = (job: ScryptJob) => Promise<Uint8Array>

/** OWASP's first choice: 128 MiB for each computation. */
export const STANDARD_COST: ScryptCost = { N: 2 ** 17, r: 8, p: 1 }

export const HASH_BYTES = 32

/** Returns a number that is proportional to the time of a computation. */
export function workOf({ N, r, p }: ScryptCost): number {
  return N * r * p
}

/** Returns the options of Node's functions: the cost, and the memory that it needs. */
export function scryptOptions(cost: ScryptCost) {
  const { N, r, p } = cost
  return { ...cost, maxmem: 128 * r * (N + p + 2) }
}

/** Computes without the threads of `scrypt-threads.ts`. Only for commands, which do nothing else at that time. */
export const scryptHere: Scrypt = ({ secret, salt, cost }) => compute(secret, salt, HASH_BYTES, scryptOptions(cost))

const compute = promisify<Uint8Array, Uint8Array, number, ReturnType<typeof scryptOptions>, Buffer>(scryptOfNode)
