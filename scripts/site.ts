/**
 * `npm run docs`: builds the documentation as a static site, in `site/dist`. A dead link is an error.
 *
 *     npm run docs            builds the site
 *     npm run docs:dev        serves the site, and updates it when a page changes
 *
 * The site contains the Markdown pages of the repository, at the same paths, and the API reference, which is generated
 * from the docstrings of `src/index.ts`. The tools are VitePress, TypeDoc, and the TypeScript version that TypeDoc
 * needs. They are dependencies of the separate package in `site/`, so that an installation without the site stays
 * small. They are installed if they are missing. Nothing else is downloaded.
 */
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const root = join(import.meta.dirname, '..')
const site = join(root, 'site')
const pages = join(site, 'pages')

const written = ['*.md', 'docs/**/*.md', 'bench/*.md', 'checks/*.md', 'findings/*.md']
/** Further files: pictures become parts of pages, and `files` are served unchanged. */
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

/**
 * Copies the pages into the folder of VitePress, because VitePress finds its own libraries only for pages in this
 * folder.
 */
function gather(): void {
  for (const path of globSync(written, { cwd: root })) gatherPage(path)
  for (const path of globSync(pictures, { cwd: root })) cpSync(join(root, path), join(pages, path))
  for (const path of globSync(files, { cwd: root })) cpSync(join(root, path), join(pages, 'public', path))
}

/** Copies a page. The README becomes the first page. */
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

/**
 * Returns the environment for VitePress. VitePress does not change links to files with the listed extensions, because
 * they are not pages.
 */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, VITE_EXTRA_EXTENSIONS: 'conf,cfg,sh,yaml' }
}
