/** The documentation about itself: its links lead somewhere, the index names every page, its examples are right. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { anchorsIn, documents, type Example, examplesIn, linksIn } from './markdown.ts'

test('every link leads to a file and a heading that exist', () => {
  const dead = documents.flatMap((file) => linksIn(file).filter(({ target }) => !isThere(file, target)))
  assert.deepEqual(dead, [])
})

function isThere(file: string, target: string): boolean {
  const [path = '', anchor] = decodeURI(target).split('#')
  const linked = path === '' ? file : normalize(join(dirname(file), path))
  if (!existsSync(linked)) return false
  if (statSync(linked).isDirectory()) return existsSync(join(linked, 'index.md'))
  return anchor === undefined || !linked.endsWith('.md') || anchorsIn(linked).includes(anchor)
}

test('the index names every page, and that of the decisions every decision', () => {
  for (const [index, pages] of [
    ['docs/index.md', globSync('docs/{,start/,guides/,reference/}*.md')],
    ['docs/decisions/index.md', globSync('docs/decisions/*.md')],
  ] as const) {
    const named = linksIn(index).map(({ target }) => normalize(join(dirname(index), target)))
    assert.deepEqual(
      pages.filter((page) => page !== index && !named.includes(page)),
      [],
    )
  }
})

test('the table of checks has a row for every program in "checks" that says how it is started', () => {
  const [table = ''] = /^\| command [\s\S]*?\n\n/m.exec(readFileSync('checks/README.md', 'utf8')) ?? []
  const programs = globSync('checks/**/*.{ts,sh}').filter((file) =>
    new RegExp(`^(#| \\*) +(node )?${file}`, 'm').test(readFileSync(file, 'utf8')),
  )
  assert.ok(programs.length >= 5, `${programs}`)
  const missing = programs.filter((program) => !new RegExp(`^\\| \`(node )?${program}\\b`, 'm').test(table))
  assert.deepEqual(missing, [])
})

test('every example in JSON is JSON', () => {
  for (const { at, code } of documents.flatMap(examplesIn).filter(({ language }) => language === 'json')) {
    assert.doesNotThrow(() => JSON.parse(code), at)
  }
})

test('every example marked "check", and every one in the docstrings of the front door, has the types it should', (t) => {
  const marked = documents.flatMap(examplesIn).filter(({ marks }) => marks.includes('check'))
  const examples = [...marked, ...examplesInDocstrings('src/index.ts')]
  assert.ok(examples.length >= 12, `${examples.length} examples`)

  const folder = mkdtempSync('.examples-')
  t.after(() => rmSync(folder, { recursive: true }))
  for (const example of examples) writeFileSync(join(folder, fileName(example)), module(example))
  const settings = { extends: '../tsconfig.json', compilerOptions: { noUnusedLocals: false }, include: ['*.ts'] }
  const files = ['../test/documentation/free-names.d.ts']
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...settings, files }))
  const { status, stdout, stderr } = spawnSync('node_modules/.bin/tsc', ['-p', folder], { encoding: 'utf8' })
  assert.equal(status, 0, stdout + stderr)
})

/** A module of its own. What is marked "config" are settings, as they stand within `defineConfig`. */
function module({ code, marks }: Example): string {
  const whole = marks.includes('config') ? `export default defineConfig({\n${code}})\n` : code
  return `${whole.replaceAll(`'doorbell-ciba'`, `'../src/index.ts'`)}\nexport {}\n`
}

/** Says where it stands, because that is what the compiler names. */
function fileName({ at }: Example): string {
  return `${at.replaceAll(/[^a-zA-Z0-9]/g, '-')}.ts`
}

function examplesInDocstrings(file: string): Example[] {
  const comments = readFileSync(file, 'utf8').matchAll(/\/\*\*[\s\S]*?\*\//g)
  return [...comments].flatMap(([comment], index) => {
    const [, code] = /@example\n([\s\S]*?)(?: \* @|\*\/)/.exec(comment) ?? []
    const lines = code?.replaceAll(/^ \* ?/gm, '')
    return lines === undefined ? [] : [{ at: `${file}:${index}`, language: 'ts', marks: [], code: withImport(lines) }]
  })
}

/** An example may leave out what the one at the top of the file has shown. */
function withImport(code: string): string {
  return code.includes('import ') ? code : `import { createDoorbell } from 'doorbell-ciba'\n${code}`
}
