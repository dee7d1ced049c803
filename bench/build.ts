/**
 * What is measured is JavaScript, as in an installed package: with the sources, the memory and the start would be those
 * of Node's TypeScript loader too. For all servers alike.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const project = fileURLToPath(new URL('..', import.meta.url))
const tsc = join(project, 'node_modules', '.bin', 'tsc')

/** Builds go to a folder within the project, so that what they import is found, where git and npm do not look. */
const folder = join(project, 'dist', `bench-${process.pid}`)

/**
 * The parts on the server of this checkout. The build is there until this process ends.
 *
 * @returns the folder of the parts
 */
export function buildParts(): URL {
  return build(project, join(folder, 'now'), [])
}

/**
 * The parts of this checkout on the server of another commit: the same program uses both, through the package's public
 * names. Both run with the packages that are installed here.
 *
 * @param commit any name that git knows a commit by
 * @returns the folder of the parts
 * @throws Error if git knows no such commit
 */
export function buildPartsOn(commit: string): URL {
  const source = join(folder, 'source')
  mkdirSync(source, { recursive: true })
  const archive = archiveOf(commit)
  execFileSync('tar', ['-x', '-C', source], { input: archive })
  cpSync(join(project, 'bench'), join(source, 'bench'), { recursive: true })
  cpSync(join(project, 'test', 'support'), join(source, 'test', 'support'), { recursive: true })
  cpSync(join(project, 'tsconfig.json'), join(source, 'tsconfig.json'))
  // The parts are checked against the types of this checkout, when they are built for it.
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
  return pathToFileURL(join(target, 'bench', 'parts/'))
}
