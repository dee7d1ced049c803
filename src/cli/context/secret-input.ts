/** Reads the secret of the client that a command acts as. */
import { text as readAll } from 'node:stream/consumers'
import { Failure } from './failure.ts'

export interface SecretOptions {
  clientSecret?: string
  clientSecretStdin?: boolean
}

/** Resolves to undefined if no secret was given: the secret is then looked up in the configuration. */
export async function readSecret({ clientSecret, clientSecretStdin }: SecretOptions): Promise<string | undefined> {
  if (!clientSecretStdin) return clientSecret
  if (clientSecret !== undefined) throw new Failure('Give either --client-secret or --client-secret-stdin, not both.')
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure('The client secret on standard input is empty.')
  return secret
}
