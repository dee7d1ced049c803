/** What an operator does about a problem of the configuration. */
import { basename } from 'node:path'
import { hintOnEnvironmentFile } from './environment-file.ts'
import { configFile, type SettingOptions } from './settings.ts'

/** Returns what to do about one problem of a `ConfigError`. */
export function adviceOnProblem(problem: string, options: SettingOptions): string {
  const file = configFile(options)
  if (file !== undefined && problem.startsWith(`${basename(file)} `)) {
    return problem.includes('syntax error') || problem.includes('is not JSON')
      ? 'correct the file; if you have removed "//" in front of a section, remove it from all lines of the section, up to "},"'
      : 'correct the file'
  }
  const hint = hintOnEnvironmentFile([problem])
  return hint === undefined ? 'change the setting, or remove it to use its default' : hint
}
