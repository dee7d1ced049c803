/** Reads the secret of the client that a command acts as. */
import { text as readAll } from 'node:stream/consumers'
import { Failure } from './failure.ts'

export interface SecretOptions {
  clientSecret?: string
  clientSecretStdin?: boolean
}

/**
 * Resolves to the secret from the option or from standard input, or to undefined if no secret was given. In that case
 * the caller looks for the secret in the configuration.
 */
export async function readSecret({ clientSecret, clientSecretStdin }: SecretOptions): Promise<string | undefined> {
  if (!clientSecretStdin) return clientSecret
  if (clientSecret !== undefined) throw new Failure('Give either --client-secret or --client-secret-stdin, not both.')
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure('The client secret on standard input is empty.')
  return secret
}
