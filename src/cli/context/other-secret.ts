/** Advice for the operator if the database was created with a secret that is not the configured one. */
import type { Config } from '../../config/config.ts'
import { fileOfOtherSecret } from '../../config/development-secret.ts'
import { shortPath } from './settings.ts'

/**
 * Resolves to advice on how to use the secret with which the database was created. In development and in the demo, that
 * secret may be in a file and not in DOORBELL_SECRET.
 */
export async function adviceOnOtherSecret(config: Config): Promise<string> {
  const file = await fileOfOtherSecret(config, process.cwd())
  const anew = 'or use a new database (the setting "database", DOORBELL_DATABASE)'
  if (file !== undefined) {
    return `${shortPath(file)} contains the secret that was used in development: set DOORBELL_SECRET to it, ${anew}`
  }
  const beside = config.development ? ', or the file that ends in .secret beside the database' : ''
  return `restore the former DOORBELL_SECRET${beside}, ${anew}`
}
