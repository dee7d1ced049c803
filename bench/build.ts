/**
 * What is measured is JavaScript, as in an installed package: with the sources, the memory and the start would be those
 * of Node's TypeScript loader too. For both servers alike.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const project = fileURLToPath(new URL('..', import.meta.url))

export interface Built {
  folder: URL
  remove(): void
}

/** Within the project, so that what it imports is found, where git and npm do not look. */
export function buildParts(): Built {
  const folder = join(project, 'dist', `bench-${process.pid}`)
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const tsc = join(project, 'node_modules', '.bin', 'tsc')
  try {
    execFileSync(tsc, ['-p', join(project, 'bench', 'tsconfig.parts.json'), '--outDir', folder], {
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    for (const file of globSync('src/**/*.{sql,eta,css,js,json,svg}', { cwd: project })) {
      cpSync(join(project, file), join(folder, file))
    }
  } catch (error) {
    remove()
    throw error
  }
  return { folder: pathToFileURL(join(folder, 'bench', 'parts/')), remove }
}
