/** Notices a file `.env` whose variables are not set. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

/**
 * Returns a hint if a setting is missing, and this folder contains a file `.env` with variables that are not set.
 * Doorbell does not read this file, although many programs do.
 */
export function hintOnEnvironmentFile(problems: readonly string[]): string | undefined {
  if (!problems.some((problem) => problem.includes(' is missing'))) return undefined
  const unset = namesIn(resolve('.env')).filter((name) => !process.env[name])
  if (unset.length === 0) return undefined
  const them = unset.length > 1 ? `${unset[0]} and ${unset.length - 1} more` : unset[0]
  return `the file .env in this folder contains ${them}, but Doorbell does not read this file; load it into the shell: set -a; . ./.env; set +a`
}

function namesIn(file: string): string[] {
  try {
    const lines = readFileSync(file, 'utf8').matchAll(/^\s*(?:export\s+)?(DOORBELL_\w+)=/gm)
    return [...lines].map(([, name]) => name!)
  } catch {
    return []
  }
}
