/**
 * Number matching: instead of comparing what both devices show, the user picks what the client's device shows. Who
 * approves without looking picks wrong, and that denies (CD-8).
 */
import { createHmac } from 'node:crypto'
import { type AuthenticationRequest, isNumberToMatch } from '../ciba/authentication-request/authentication-request.ts'

export interface NumberMatching {
  /** The numbers to choose from, or nothing if this request has none to match. */
  choicesFor(request: Pick<AuthenticationRequest, 'id' | 'bindingMessage'>): string[] | undefined
}

const decoys = 2

/** @param key makes the wrong numbers the same each time the request is shown, so that reloading does not give it away */
export function createNumberMatching(key: Buffer): NumberMatching {
  return {
    choicesFor({ id, bindingMessage }) {
      if (!isNumberToMatch(bindingMessage)) return undefined
      const choices = new Set([bindingMessage])
      for (let round = 0; choices.size <= decoys; round++) choices.add(decoy(id, round, bindingMessage.length))
      return [...choices].sort()
    },
  }

  function decoy(id: string, round: number, length: number): string {
    const digest = createHmac('sha256', key).update(`${id} ${round}`).digest()
    return String(digest.readUInt32BE(0) % 10 ** length).padStart(length, '0')
  }
}

/** When numbers are not matched, every request is shown as it is. */
export const noNumberMatching: NumberMatching = { choicesFor: () => undefined }
