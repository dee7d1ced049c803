/**
 * Prints texts for a trial with readers: twenty comments and twenty sentences of the documentation, chosen at random.
 *
 *     node scripts/sample-prose.ts 7        the texts of seed 7; the same seed gives the same texts at the same commit
 *
 * A reader marks each text that must be read twice. Fewer than two marks in forty are wanted. A comment is printed with
 * the code below it, a sentence between arrows in its paragraph.
 */
import { globSync, readFileSync } from 'node:fs'
import { createRandom } from '../test/fuzz/random.ts'

const each = 20
const [seed = '1'] = process.argv.slice(2)

interface Text {
  place: string
  text: string
}

const random = createRandom(Number(seed))
for (const [title, texts] of [
  ['Comments', globSync('src/**/*.ts').sort().flatMap(commentsIn)],
  ['Sentences', globSync(['README.md', 'ARCHITECTURE.md', 'docs/**/*.md']).sort().flatMap(sentencesIn)],
] as const) {
  console.log(`# ${title}\n`)
  for (const [index, { place, text }] of choose(texts, each).entries()) {
    console.log(`## ${index + 1}. ${place}\n\n${text}\n`)
  }
}

function choose(texts: readonly Text[], count: number): Text[] {
  const left = [...texts]
  return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0]!)
}

/** Returns the comments of a file, each with the two lines of code that follow it. */
function commentsIn(file: string): Text[] {
  const lines = readFileSync(file, 'utf8').split('\n')
  const isComment = (line = '') => /^\s*(\/\*\*|\/\/|\*)/.test(line)
  return lines.flatMap((line, index) => {
    const begins = isComment(line) && (!isComment(lines[index - 1]) || /^\s*\/\*\*/.test(line))
    if (!begins) return []
    const length = lines.slice(index + 1).findIndex((next) => !isComment(next)) + 1
    return [{ place: `${file}:${index + 1}`, text: lines.slice(index, index + length + 2).join('\n') }]
  })
}

/** Returns the sentences of a page with at least five words, outside code and headings. */
function sentencesIn(file: string): Text[] {
  const prose = readFileSync(file, 'utf8').replace(/^```[\s\S]*?^```$/gm, '')
  return prose.split(/^(?=#+ )/m).flatMap((section) => {
    const [heading = '', ...rest] = section.split('\n')
    const blocks = rest.join('\n').split(/\n\s*\n|\n(?=[-*|] )|(?<=\|)\n/)
    return blocks
      .flatMap((block) => sentencesOf(block).map((sentence) => ({ sentence, block })))
      .map(({ sentence, block }) => ({
        place: `${file}, ${heading.replace(/^#+ /, '')}`,
        text: plain(block).replace(sentence, `→ ${sentence} ←`),
      }))
  })
}

/** A paragraph, an entry of a list, or a row of a table on one line. */
function plain(block: string): string {
  return block.replace(/\s+/g, ' ').trim()
}

function sentencesOf(block: string): string[] {
  const sentences = plain(block)
    .split('|')
    .flatMap((cell) => cell.split(/(?<=[.:;?!])\s+(?=[A-Z`[])/))
  return sentences
    .map((sentence) => sentence.replace(/^\s*([-*]|\d+\.)\s/, '').trim())
    .filter((sentence) => sentence.split(' ').length >= 5)
}
