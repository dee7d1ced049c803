/**
 * Names that were given up for those of the standards, or for plainer ones, are declared nowhere again. Exact names of
 * declared identifiers, not English words: a comment or a text may say "behind".
 */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

const former = [
  'Behind BindTokens CallToHandOver HandOver HandedOver Hearsay InWork KnownLane Letter OwnSaying OwnVoice',
  'ProofToHandOver Saying Shares StandIn TokenBinding Verdict Vouched WantedShare atDesk bindTokens callBackPlace',
  'carryOut contentPlace couldRing createBehind createBindTokens createHandOver createHearsay createInWork createOwnVoice',
  'createShares createStandIns era fairly fewOfLane guessesTooMuch handBack handOver hasRoom hearsay isPretended',
  'judge keyPlace laneOf lanes manyOfLane mayRing mustBeThere newLetter notForRingers nudge ofLane',
  'ofOtherLane onNews patrolMs putBack refuseWhoeverGuesses roomOfKind roomOfLane sayings secretPlace soonMs',
  'standIn standInFor standIns stretchNow tellEnded toLetter usualAnswer vouchFor vouchedFor wasTold',
  'whileWaiting withDesk wordsOfSqlite complaintsAbout mustBe mustBeSecretly Circumstances ClientCircumstances',
].flatMap((names) => names.split(' '))

/** How a name is declared. Members of types and objects are looked for at the beginning of a line. */
const declaring = (name: string) =>
  new RegExp(`\\b(?:const|let|function|class|interface|type)\\s+${name}\\b|^\\s+(?:async )?${name}\\??[(:]`, 'm')

/** Deliberate exceptions: what a name is called that somebody outside uses. */
const kept: Record<string, string[]> = {
  'src/endings': ['mustBe'],
}

test('no former name is declared', () => {
  const found = globSync('src/**/*.ts').flatMap((file) => {
    const text = readFileSync(file, 'utf8')
    const allowed = Object.entries(kept).flatMap(([folder, names]) => (file.startsWith(folder) ? names : []))
    return former
      .filter((name) => !allowed.includes(name) && declaring(name).test(text))
      .map((name) => `${file}: ${name}`)
  })
  assert.deepEqual(found, [])
})

test('each term of the glossary stands once, in the order of the alphabet, and those of standards with a clause', () => {
  assert.ok(existsSync('docs/glossary.md'))
  const [, ofStandards = '', ofProgram = ''] = readFileSync('docs/glossary.md', 'utf8').split(/^## .*$/m)
  for (const [part, columns] of [
    [ofStandards, 3],
    [ofProgram, 2],
  ] as const) {
    const rows = part.split('\n').filter((line) => /^\| [^-]/.test(line))
    const cells = rows.slice(1).map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    assert.ok(cells.length > 10)
    for (const row of cells) assert.equal(row.filter((cell) => cell !== '').length, columns, row.join(' | '))
    const terms = cells.map(([term = '']) => term.toLowerCase())
    assert.deepEqual(
      terms,
      terms.toSorted((one, other) => one.localeCompare(other, 'en')),
    )
  }
})
