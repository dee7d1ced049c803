/** A release is made of what is committed and has passed, and a dry run changes nothing. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { releaseChangelog } from '../../scripts/changelog.ts'

describe('the changelog of a release', () => {
  const empty = '# Changelog\n\n## [Unreleased]\n'
  const released = '## [0.1.0] - 2026-01-01\n\n### Added\n\n- Poll.\n'

  test('what was unreleased belongs to the version, and stands before older ones', () => {
    const { changelog, notes } = releaseChangelog(
      `${empty}\n### Fixed\n\n- Ping.\n\n${released}`,
      '0.2.0',
      '2026-11-29',
    )
    assert.equal(notes, '### Fixed\n\n- Ping.')
    assert.equal(changelog, `${empty}\n## [0.2.0] - 2026-11-29\n\n### Fixed\n\n- Ping.\n\n${released}`)
  })

  test('the first release has none before it', () => {
    const { changelog } = releaseChangelog(`${empty}\n### Added\n\n- Poll.\n`, '0.1.0', '2026-01-01')
    assert.equal(changelog, `${empty}\n${released}`)
  })

  test('a release that brings nothing is none', () => {
    assert.throws(() => releaseChangelog(`${empty}\n${released}`, '0.2.0', '2026-11-29'), /says nothing/)
    assert.throws(() => releaseChangelog('# Changelog\n', '0.2.0', '2026-11-29'), /no section/)
  })
})

describe('npm run release', () => {
  const identity = { GIT_AUTHOR_NAME: 'A', GIT_AUTHOR_EMAIL: 'a@example.com' }
  const committer = { GIT_COMMITTER_NAME: 'A', GIT_COMMITTER_EMAIL: 'a@example.com' }
  const env = { ...process.env, ...identity, ...committer }
  const clone = mkdtempSync(join(tmpdir(), 'doorbell-release-test-'))

  before(() => cloneRepository())
  after(() => rmSync(clone, { recursive: true, force: true }))

  function git(...words: string[]): string {
    return execFileSync('git', words, { cwd: clone, encoding: 'utf8', env }).trim()
  }

  function release(...words: string[]) {
    return spawnSync(process.execPath, ['scripts/release.ts', ...words], { cwd: clone, encoding: 'utf8', env })
  }

  /** This checkout as it would be if all of it were committed, with a short list of changes. */
  function cloneRepository(): void {
    execFileSync('git', ['clone', '--quiet', '.', clone], { env })
    for (const file of ['scripts/release.ts', 'scripts/changelog.ts', 'package.json']) {
      copyFileSync(file, join(clone, file))
    }
    writeFileSync(join(clone, 'CHANGELOG.md'), '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- All of it.\n')
    symlinkSync(resolve('node_modules'), join(clone, 'node_modules'))
    // The folder is ignored, a link to one is not.
    writeFileSync(join(clone, '.git/info/exclude'), 'node_modules\n')
    git('add', '--all')
    git('commit', '--quiet', '--message', 'Change it')
  }

  test('is refused with changes that are not committed', () => {
    writeFileSync(join(clone, 'left-over.txt'), '')
    const { status, stderr } = release('9.0.0', '--ci', 'true')
    rmSync(join(clone, 'left-over.txt'))
    assert.equal(status, 1)
    assert.match(stderr, /not committed[\s\S]*left-over\.txt/)
  })

  test('is refused without a version that is newer', () => {
    assert.match(release().stderr, /name one version/)
    assert.match(release('next', '--ci', 'true').stderr, /no version such as/)
    assert.match(release('0.0.9', '--ci', 'true').stderr, /0\.0\.9 is older than/)
  })

  test('is refused where the checks fail, and leaves everything as it was', () => {
    const { status, stderr } = release('9.0.0', '--ci', 'exit 3')
    assert.equal(status, 1)
    assert.match(stderr, /No release: .*exit 3/)
    assert.equal(git('status', '--porcelain'), '')
  })

  test('a dry run shows commit, package and notes, and changes nothing', () => {
    const head = git('rev-parse', 'HEAD')
    const { status, stdout, stderr } = release('9.0.0', '--dry-run', '--ci', 'true')
    assert.equal(status, 0, stderr)
    assert.match(stdout, /Release 9\.0\.0/)
    assert.match(stdout, /doorbell-ciba@9\.0\.0/)
    assert.match(stdout, /- All of it\./)
    assert.deepEqual([git('rev-parse', 'HEAD'), git('tag'), git('status', '--porcelain')], [head, '', ''])
  })

  test('sets the version, dates its changes, commits and tags', () => {
    const { status, stderr } = release('9.0.0', '--ci', 'true')
    assert.equal(status, 0, stderr)
    assert.equal(git('status', '--porcelain'), '')
    assert.equal(git('log', '-1', '--format=%s'), 'Release 9.0.0')
    assert.equal(git('describe'), 'v9.0.0')
    assert.equal(git('tag', '--list', '--format=%(contents)', 'v9.0.0'), '9.0.0\n\n### Added\n\n- All of it.')
    const versions = ['package.json', 'package-lock.json'].map(
      (file) => JSON.parse(git('show', `HEAD:${file}`)).version,
    )
    assert.deepEqual(versions, ['9.0.0', '9.0.0'])
    const changelog = readFileSync(join(clone, 'CHANGELOG.md'), 'utf8')
    assert.match(changelog, /^## \[Unreleased\]\n\n## \[9\.0\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- All of it\.\n$/m)
    assert.match(release('9.0.0', '--ci', 'true').stderr, /there is a tag v9\.0\.0 already/)
  })
})
