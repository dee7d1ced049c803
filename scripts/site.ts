/**
 * `npm run docs`: builds the documentation as a static site, in `site/dist`. A dead link is an error.
 *
 *     npm run docs            builds the site
 *     npm run docs:dev        serves it while pages are written
 *
 * The pages are those of the repository, at the same addresses, and the API reference from the docstrings of
 * `src/index.ts`. The tools (VitePress, TypeDoc, and the TypeScript that TypeDoc needs) are in `site/`, a package of
 * its own, so that a checkout without the site stays small. It is installed if it is missing; nothing else is
 * downloaded.
 */
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const root = join(import.meta.dirname, '..')
const site = join(root, 'site')
const pages = join(site, 'pages')

const written = ['*.md', 'docs/**/*.md', 'bench/*.md', 'checks/*.md', 'findings/*.md']
/** Files beside the pages: pictures become part of a page, the others are served unchanged. */
const pictures = ['docs/images/*']
const files = ['docs/proxies/*', 'findings/*.sh']

const [mode = 'build'] = process.argv.slice(2)
try {
  installTools()
  rmSync(pages, { recursive: true, force: true })
  gather()
  writeApiReference()
  if (mode === 'dev') serve()
  else runTool('vitepress', ['build'])
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}

/** Runs `npm ci` if the installed packages differ from the lock file. */
function installTools(): void {
  const installed = join(site, 'node_modules/.installed-lock.json')
  const lock = readFileSync(join(site, 'package-lock.json'), 'utf8')
  if (existsSync(installed) && readFileSync(installed, 'utf8') === lock) return
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: site, stdio: 'inherit' })
  writeFileSync(installed, lock)
}

/** VitePress finds its own libraries only for pages below its folder, so the pages are copied there. */
function gather(): void {
  for (const path of globSync(written, { cwd: root })) gatherPage(path)
  for (const path of globSync(pictures, { cwd: root })) cpSync(join(root, path), join(pages, path))
  for (const path of globSync(files, { cwd: root })) cpSync(join(root, path), join(pages, 'public', path))
}

/** The README is the first page. */
function gatherPage(path: string): void {
  const target = join(pages, path === 'README.md' ? 'index.md' : path)
  const text = readFileSync(join(root, path), 'utf8').replaceAll(/\]\(((?:\.\.\/)*)README\.md/g, ']($1index.md')
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(target, text)
}

function writeApiReference(): void {
  runTool('typedoc', ['--options', 'typedoc.json'])
}

function serve(): void {
  const options = { cwd: site, env: environment(), stdio: 'inherit' } as const
  const server = spawn(process.execPath, [toolPath('vitepress'), 'dev'], options)
  server.once('exit', (code) => process.exit(code ?? 0))
  for (const folder of ['.', 'docs', 'bench', 'checks', 'findings']) {
    watch(join(root, folder), { recursive: folder === 'docs' }, (_event, name) => {
      const path = relative(root, join(root, folder, name ?? ''))
      if (path.endsWith('.md') && existsSync(join(root, path))) gatherPage(path)
    })
  }
}

function runTool(tool: string, words: string[]): void {
  execFileSync(process.execPath, [toolPath(tool), ...words], { cwd: site, env: environment(), stdio: 'inherit' })
}

function toolPath(tool: string): string {
  return join(site, 'node_modules', tool, 'bin', tool === 'vitepress' ? 'vitepress.js' : tool)
}

/** Links to these files are not changed: they are not pages. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, VITE_EXTRA_EXTENSIONS: 'conf,cfg,sh,yaml' }
}
