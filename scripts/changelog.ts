/** CHANGELOG.md as https://keepachangelog.com has it: what is not released yet stands first. */

const heading = '## [Unreleased]\n'

/**
 * Returns the changelog in which all that was unreleased belongs to the version, and what the version brings.
 *
 * @param today such as 2026-11-29
 * @throws if there is nothing to release
 */
export function releaseChangelog(changelog: string, version: string, today: string) {
  const [before, rest] = changelog.split(heading)
  if (rest === undefined) throw new Error('CHANGELOG.md has no section "## [Unreleased]"')
  const older = rest.search(/^## /m)
  const notes = (older === -1 ? rest : rest.slice(0, older)).trim()
  if (notes === '') throw new Error('CHANGELOG.md says nothing under "## [Unreleased]"')
  const released = `## [${version}] - ${today}\n\n${notes}\n`
  return { changelog: [before + heading, released, older === -1 ? [] : rest.slice(older)].flat().join('\n'), notes }
}
