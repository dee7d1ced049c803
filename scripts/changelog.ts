/**
 * Updates CHANGELOG.md, which has the format of https://keepachangelog.com. Unreleased changes are in the first
 * section.
 */

const heading = '## [Unreleased]\n'

/**
 * Returns the changelog, in which the unreleased changes are now the section of `version`, and the text of this
 * section.
 *
 * @param today the date, such as 2026-11-29
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
