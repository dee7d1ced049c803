/** The default of a limit is written once, in docs/configuration.md. Other pages refer to it by the setting's name. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { documents } from './markdown.ts'

const reference = 'docs/configuration.md'
/** The changelog says what was true of a version. */
const others = documents.filter((file) => file !== reference && file !== 'CHANGELOG.md')

interface Limit {
  name: string
  /** Finds the default as a number, with any separator of thousands. */
  number: RegExp
  value: number
}

/** From the table of the settings. A default of 0 means that there is no limit. */
const limits: Limit[] = readFileSync(reference, 'utf8')
  .split('\n')
  .flatMap((line) => {
    const [, name, written] = /^\| `(limits\.[\w.]+)` *\| ([\d \u00a0\u202f]+?) *\|/.exec(line) ?? []
    const digits = written?.replace(/\D/g, '') ?? ''
    if (name === undefined || Number(digits) === 0) return []
    const spaced = digits.replace(/\B(?=(\d{3})+$)/g, '[ ,_\\u00a0\\u202f]?')
    return [{ name, value: Number(digits), number: new RegExp(`(?<![\\d.])${spaced}(?![\\d])`) }]
  })

/** Paragraphs, list items and rows of tables, each as one line. */
function blocksOf(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split(/\n\n|\n(?=\||- )/)
    .map((block) => block.replace(/\s+/g, ' '))
}

function repeated(blocks: string[]): string[] {
  return blocks.flatMap((block) =>
    limits
      .filter(({ name, number }) => {
        const names = [name, name.replace('limits.', '')].some((each) => block.includes(`\`${each}\``))
        return names && number.test(block)
      })
      .map(({ name }) => `${name}: ${block.slice(0, 200)}`),
  )
}

test('no page repeats the default of a limit that it names', () => {
  assert.ok(limits.length >= 15, String(limits.length))
  assert.deepEqual(
    repeated(['at most 10 000 (`limits.signIn.openInAll`)', '`limits.inFlight` is 10 000']).map(
      (hit) => hit.split(':')[0],
    ),
    ['limits.signIn.openInAll'],
  )
  assert.deepEqual(
    others.flatMap((file) => repeated(blocksOf(file)).map((hit) => `${file}: ${hit}`)),
    [],
  )
})

test('the threat model contains no default of a limit that is in the thousands, whether it names the setting or not', () => {
  const large = limits.filter(({ value }) => value >= 1000)
  assert.ok(large.length >= 3)
  const found = large.filter(({ number }) => blocksOf('docs/threat-model.md').some((block) => number.test(block)))
  assert.deepEqual(
    found.map(({ name }) => name),
    [],
  )
})
