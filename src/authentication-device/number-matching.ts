/**
 * Number matching: the consumption device shows a number, and the user picks this number from several numbers on the
 * authentication device. A user who approves without looking is likely to pick a wrong number. A wrong number denies
 * the request.
 */
import { createHmac } from 'node:crypto'
import { type AuthenticationRequest, isNumberToMatch } from '../ciba/authentication-request/authentication-request.ts'

/** Selects the numbers that a user can pick from. */
export interface NumberMatching {
  /** Returns the numbers to pick from, or undefined if this request uses no number matching. */
  choicesFor(request: Pick<AuthenticationRequest, 'id' | 'bindingMessage'>): string[] | undefined
}

/** How many wrong numbers are shown. */
const fakes = 2

/**
 * Returns number matching that shows the right number among wrong numbers.
 *
 * @param key the key from which the wrong numbers are derived, so that they are the same each time the page is loaded.
 *   If the wrong numbers changed, the right number would be recognisable, because only the right number would stay
 */
export function createNumberMatching(key: Buffer): NumberMatching {
  return {
    choicesFor({ id, bindingMessage }) {
      if (!isNumberToMatch(bindingMessage)) return undefined
      const choices = new Set([bindingMessage])
      for (let round = 0; choices.size <= fakes; round++) choices.add(fake(id, round, bindingMessage.length))
      return [...choices].sort()
    },
  }

  function fake(id: string, round: number, length: number): string {
    const digest = createHmac('sha256', key).update(`${id} ${round}`).digest()
    return String(digest.readUInt32BE(0) % 10 ** length).padStart(length, '0')
  }
}

/** For servers without number matching: the binding message is shown unchanged. */
export const noNumberMatching: NumberMatching = { choicesFor: () => undefined }
