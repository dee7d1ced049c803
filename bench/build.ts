/**
 * Builds the servers of the benchmarks as JavaScript, like the files of an installed package. If Node loaded the
 * TypeScript sources, the measured memory and start time would include Node's TypeScript loader.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const project = fileURLToPath(new URL('..', import.meta.url))
const tsc = join(project, 'node_modules', '.bin', 'tsc')

/** The folder of the builds. It is inside the project, so that imports are resolved. Git and npm ignore `dist`. */
const folder = join(project, 'dist', `bench-${process.pid}`)

/**
 * Builds the parts of this checkout with the server of this checkout. The build is removed when this process ends.
 *
 * @returns the folder of the parts
 */
export function buildParts(): URL {
  return build(project, join(folder, 'now'), [])
}

/**
 * Builds the parts of this checkout with the server of another commit. The parts use only the public API of the
 * package, so they work with both servers. Both builds use the packages that are installed here.
 * @param commit any name by which git finds the commit
 * @returns the folder of the parts
 * @throws Error if git does not find the commit
 */
export function buildPartsOn(commit: string): URL {
  const source = join(folder, 'source')
  mkdirSync(source, { recursive: true })
  const archive = archiveOf(commit)
  execFileSync('tar', ['-x', '-C', source], { input: archive })
  cpSync(join(project, 'bench'), join(source, 'bench'), { recursive: true })
  cpSync(join(project, 'test', 'support'), join(source, 'test', 'support'), { recursive: true })
  cpSync(join(project, 'tsconfig.json'), join(source, 'tsconfig.json'))
  // Types are not checked here: they are checked when the parts are built with the server of this checkout.
  return build(source, join(folder, 'before'), ['--noCheck'])
}

function archiveOf(commit: string): Buffer {
  try {
    return execFileSync('git', ['archive', '--format=tar', commit, 'src'], {
      cwd: project,
      maxBuffer: 256 * 1024 * 1024,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  } catch (error) {
    const { stderr } = error as { stderr: Buffer | undefined }
    throw new Error(
      `git has no commit ${commit}: ${stderr?.toString().trim()}. In a shallow clone: git fetch --unshallow`,
    )
  }
}

function build(source: string, target: string, flags: string[]): URL {
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  execFileSync(tsc, ['-p', join(source, 'bench', 'tsconfig.parts.json'), '--outDir', target, ...flags], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  for (const file of globSync('src/**/*.{sql,eta,css,js,json,svg}', { cwd: source })) {
    cpSync(join(source, file), join(target, file))
  }
  // The server reads its version from this file.
  cpSync(join(project, 'package.json'), join(target, 'package.json'))
  return pathToFileURL(join(target, 'bench', 'parts/'))
}
