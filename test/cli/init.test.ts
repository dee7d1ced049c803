/** `doorbell init` and the files that are there already. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openTerminal } from './terminal.ts'

async function repository(t: TestContext) {
  const terminal = await openTerminal(t)
  const git = (...words: string[]) => execFileSync('git', words, { cwd: terminal.cwd, encoding: 'utf8' })
  git('init', '--quiet')
  return { terminal, git, ignore: join(terminal.cwd, '.gitignore') }
}

test('the secret beside the database is kept out of Git, even if the database is ignored already', async (t) => {
  const { terminal, git, ignore } = await repository(t)
  writeFileSync(ignore, '*.db\n.env*\n')
  assert.match((await terminal.run(['init'])).stdout, /^Added to \.gitignore: doorbell\.db\*\.$/m)
  writeFileSync(join(terminal.cwd, 'doorbell.db.secret'), 'hush')
  assert.doesNotMatch(git('status', '--porcelain'), /secret/)
})

test('a .gitignore that Git tracks: init says that the change is to be committed', async (t) => {
  const { terminal, git, ignore } = await repository(t)
  assert.doesNotMatch((await terminal.run(['init'])).stdout, /Git tracks \.gitignore/)
  writeFileSync(ignore, 'node_modules\n')
  git('add', '.gitignore')
  assert.match((await terminal.run(['init', '--force'])).stdout, /^Git tracks \.gitignore\. Commit this change/m)
})

test('a .gitignore that covers everything is not changed', async (t) => {
  const { terminal, ignore } = await repository(t)
  writeFileSync(ignore, '*.db\n*.db-wal\n*.secret\n.env*\n')
  assert.doesNotMatch((await terminal.run(['init'])).stdout, /gitignore/)
  assert.equal(readFileSync(ignore, 'utf8'), '*.db\n*.db-wal\n*.secret\n.env*\n')
})

test('a .gitignore that is a folder: the error says which lines are missing, and where to add them', async (t) => {
  const { terminal, git, ignore } = await repository(t)
  mkdirSync(ignore)
  const { code, stdout, stderr } = await terminal.run(['init'])
  assert.equal(code, 1)
  assert.match(stdout, /^Wrote doorbell\.config\.ts and \.env\.example\.$/m)
  assert.match(
    stderr,
    /^\.gitignore cannot be changed: it is a folder\. .*\.git\/info\/exclude:\n {2}\.env\.example\n/m,
  )
  assert.doesNotMatch(stderr, /EISDIR|doctor/)

  const lines = stderr.split('\n').filter((line) => line.startsWith('  '))
  writeFileSync(join(terminal.cwd, '.git/info/exclude'), lines.map((line) => `${line.trim()}\n`).join(''))
  assert.equal((await terminal.run(['init', '--force'])).code, 0, 'with these lines in that file')
  assert.doesNotMatch(git('status', '--porcelain'), /env/)
})

test('a file that cannot be written: the error names it, and says what to do', async (t) => {
  const terminal = await openTerminal(t)
  mkdirSync(join(terminal.cwd, '.env.example'))
  const { code, stderr } = await terminal.run(['init', '--force'])
  assert.equal(code, 1)
  assert.match(stderr, /^\.env\.example cannot be written: it is a folder\. .*npx doorbell init --force/m)
})
