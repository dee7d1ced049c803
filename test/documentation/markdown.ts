/** As much of Markdown as the tests of the documentation need. */
import { globSync, readFileSync } from 'node:fs'

export const documents = globSync(['*.md', '{docs,bench,findings}/**/*.md', 'site/*.md'])

export interface Example {
  /** Where it stands, such as `docs/audit.md:7`. */
  at: string
  language: string
  /** What else the fence says: `ts check` is an example that is checked. */
  marks: string[]
  code: string
}

export function examplesIn(file: string): Example[] {
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(/^( *)```(\w+)?([^\n]*)\n([\s\S]*?)^\1```$/gm)].map((match) => ({
    at: `${file}:${lineOf(text, match.index)}`,
    language: match[2] ?? '',
    marks: match[3]!.trim().split(/\s+/).filter(Boolean),
    code: match[4]!,
  }))
}

/** Links to files and headings of the repository; those to other hosts are not looked at. */
export function linksIn(file: string): { at: string; target: string }[] {
  const text = withoutCode(readFileSync(file, 'utf8'))
  return [...text.matchAll(/\]\(([^)\s]+)\)|<(?:img|a) [^>]*(?:src|href)="([^"]+)"/g)]
    .map((match) => ({ at: `${file}:${lineOf(text, match.index)}`, target: match[1] ?? match[2]! }))
    .filter(({ target }) => !/^[a-z]+:/.test(target))
}

/** The names by which the headings of a page can be linked to, as GitHub and VitePress make them. */
export function anchorsIn(file: string): string[] {
  const text = withoutCode(readFileSync(file, 'utf8'), { inline: false })
  return [...text.matchAll(/^#{1,6} (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(/\s/g, '-'),
  )
}

/** The same text with nothing but line breaks where code stood. */
function withoutCode(text: string, { inline = true } = {}): string {
  const lineBreaks = (code: string) => code.replaceAll(/[^\n]/g, '')
  const withoutBlocks = text.replaceAll(/^( *)```[\s\S]*?^\1```$/gm, lineBreaks)
  return inline ? withoutBlocks.replaceAll(/`[^`\n]*`/g, lineBreaks) : withoutBlocks
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split('\n').length
}
