/**
 * What is measured is JavaScript, as in an installed package: with the sources, the memory and the start would be those
 * of Node's TypeScript loader too. For both servers alike.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const project = fileURLToPath(new URL('..', import.meta.url))

/**
 * Within the project, so that what it imports is found, where git and npm do not look; until this process ends.
 *
 * @returns the folder of the parts
 */
export function buildParts(): URL {
  const folder = join(project, 'dist', `bench-${process.pid}`)
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const tsc = join(project, 'node_modules', '.bin', 'tsc')
  execFileSync(tsc, ['-p', join(project, 'bench', 'tsconfig.parts.json'), '--outDir', folder], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  for (const file of globSync('src/**/*.{sql,eta,css,js,json,svg}', { cwd: project })) {
    cpSync(join(project, file), join(folder, file))
  }
  return pathToFileURL(join(folder, 'bench', 'parts/'))
}
