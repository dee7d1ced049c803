/** Refuses a weak secret, password or user code that is given to a command. */
import type { Config } from '../../config/config.ts'
import type { Weakness } from '../../config/weak-values.ts'
import { Failure, sentence } from './failure.ts'
import { note } from './terminal.ts'

/**
 * Throws in production if the value is weak. Only a hash of the value is stored, so no later check could find out that
 * the value is weak. In development, the value is accepted, and a note says that it is weak.
 *
 * @param what the name of the value, for instance "the password of dora"
 * @param otherwise how the operator lets the command generate the value instead, as a part of the error message
 */
export function refuseWeak(
  what: string,
  weakness: Weakness | undefined,
  { development }: Config,
  otherwise: string,
): void {
  if (weakness === undefined) return
  const words = `${what} ${weakness.problem}`
  if (!development) throw new Failure(`${sentence(words)} ${sentence(otherwise)}`)
  note(sentence(`${words}; in production it would be refused`))
}
