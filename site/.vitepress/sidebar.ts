/** The sidebar, read from the gathered pages, so that nothing has to be listed twice. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, join, posix } from 'node:path'
import type { DefaultTheme } from 'vitepress'

type Item = DefaultTheme.SidebarItem

const pages = join(import.meta.dirname, '../pages')

/** Each heading of docs/index.md over a table is a shelf, each link in the first column of its table a page on it. */
export function shelves(): Item[] {
  const index = readFileSync(join(pages, 'docs/index.md'), 'utf8')
  const sections = index.split(/^## /m).slice(1)
  return sections
    .map((section) => ({
      text: section.split('\n', 1)[0],
      items: [...section.matchAll(/^\| \[([^\]]+)\]\(([^)]+)\.md\)/gm)].map(([, text, path]) => ({
        text,
        link: linkTo(posix.join('docs', path!)),
      })),
    }))
    .filter(({ items }) => items.length > 0)
}

export function decisions(): Item[] {
  const index = readFileSync(join(pages, 'docs/decisions/index.md'), 'utf8')
  return [...index.matchAll(/^- \[(\d+)\]\(([^)]+)\.md\) (.*)$/gm)].map(([, number, name, title]) => ({
    text: `${number} ${title}`,
    link: `/docs/decisions/${name}`,
  }))
}

/** What TypeDoc has made, by kind: functions, interfaces, … */
export function apiPages(): Item[] {
  const folder = join(pages, 'docs/reference/api')
  if (!existsSync(folder)) return []
  const kinds = [...new Set(globSync('*/*.md', { cwd: folder }).map((path) => path.split('/')[0]!))].sort()
  return kinds.map((kind) => ({
    text: kind.replaceAll('-', ' '),
    items: globSync(`${kind}/*.md`, { cwd: folder })
      .sort()
      .map((path) => ({ text: basename(path, '.md'), link: `/docs/reference/api/${path.replace(/\.md$/, '')}` })),
  }))
}

function linkTo(path: string): string {
  return path === 'index' ? '/' : `/${path}`
}
