/** The secret of a client that is played. */
import { text as readAll } from 'node:stream/consumers'
import { Failure } from './failure.ts'

export interface SecretOptions {
  clientSecret?: string
  clientSecretStdin?: boolean
}

/** Nothing if none was given: then it is looked for elsewhere. */
export async function readSecret({ clientSecret, clientSecretStdin }: SecretOptions): Promise<string | undefined> {
  if (!clientSecretStdin) return clientSecret
  if (clientSecret !== undefined) throw new Failure('Give either --client-secret or --client-secret-stdin, not both.')
  const secret = (await readAll(process.stdin)).replace(/\r?\n$/, '')
  if (secret === '') throw new Failure('The client secret on standard input is empty.')
  return secret
}
