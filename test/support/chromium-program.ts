/** Finds or installs Chromium. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const names = ['chromium', 'chromium-browser', 'google-chrome']

/**
 * Returns the path of Chromium: the value of `DOORBELL_TEST_CHROMIUM`, else a program on the PATH, else that of
 * Debian's package.
 */
export function findChromium(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const told = env.DOORBELL_TEST_CHROMIUM
  if (told) {
    if (!isProgram(told)) throw new Error(`DOORBELL_TEST_CHROMIUM is ${told}, and no program is there`)
    return told
  }
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  return [...names.flatMap((name) => folders.map((folder) => join(folder, name))), '/usr/bin/chromium'].find(isProgram)
}

/**
 * Finds Chromium. If it is missing, installs it, but only on a Debian-like system and as root.
 *
 * @throws if Chromium is missing and was not installed; the message contains the command that installs it
 */
export function needChromium(): string {
  const found = findChromium()
  if (found !== undefined) return found
  if (!existsSync('/etc/debian_version')) {
    throw new Error(
      'the browser tests need Chromium; if it is not on the PATH: DOORBELL_TEST_CHROMIUM=<program> npm test',
    )
  }
  if (process.getuid?.() !== 0) {
    throw new Error('the browser tests need Chromium: sudo apt-get install -y --no-install-recommends chromium')
  }
  console.error('The browser tests need Chromium; installing it.')
  apt('update')
  apt('install', '-y', '--no-install-recommends', 'chromium')
  const installed = findChromium()
  if (installed === undefined) throw new Error('chromium was installed, but there is no such program')
  return installed
}

function apt(...words: string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const { status, error } = spawnSync('apt-get', words, { env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error || status !== 0) throw new Error(`apt-get ${words.join(' ')} failed`, { cause: error })
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
