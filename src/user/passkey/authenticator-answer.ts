/**
 * Reads the response of an authenticator. The response is untrusted JSON text. Only the parts that this server itself
 * needs are read here.
 */

export interface AuthenticatorAnswer {
  credentialId: string
  /**
   * The challenge that the response contains. The signature of the response is not verified yet, so nothing proves that
   * the authenticator has answered this challenge.
   */
  challenge: string
  /** The user handle that the authenticator returned, base64url; undefined if it returned none. */
  userHandle: string | undefined
  transports: string[]
  /** The whole response, for the library that verifies it. */
  whole: unknown
}

const longest = 16 * 1024

/** Returns the parts of a response, or undefined if the text is not the response of an authenticator. */
export function readAnswer(text: string): AuthenticatorAnswer | undefined {
  const whole = text.length <= longest ? readObject(text) : undefined
  const response = asObject(whole?.response)
  const clientData = readObject(Buffer.from(textOf(response?.clientDataJSON) ?? '', 'base64url').toString('utf8'))
  const credentialId = textOf(whole?.id)
  const challenge = textOf(clientData?.challenge)
  if (credentialId === undefined || challenge === undefined) return undefined
  // Only base64url is accepted, because PostgreSQL can neither store nor compare a text that contains NUL.
  if (!/^[\w-]{1,1400}$/.test(credentialId)) return undefined
  return {
    credentialId,
    challenge,
    userHandle: textOf(response?.userHandle),
    transports: readTransports(response?.transports),
    whole,
  }
}

function readTransports(value: unknown): string[] {
  const list: unknown[] = Array.isArray(value) ? value : []
  return list
    .filter((item) => typeof item === 'string')
    .filter((item) => /^[a-z-]{1,20}$/.test(item))
    .slice(0, 10)
}

function readObject(text: string): Record<string, unknown> | undefined {
  try {
    return asObject(JSON.parse(text))
  } catch {
    return undefined
  }
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? (value as Record<string, unknown>) : undefined
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
