/** The documentation as a site. Its pages are gathered by `scripts/site.ts`; its sidebar is what docs/index.md says. */
import { defineConfig } from 'vitepress'
import { apiPages, decisions, shelves } from './sidebar.ts'

export default defineConfig({
  title: 'Doorbell',
  description: 'CIBA for Node.js',
  lang: 'en',
  srcDir: 'pages',
  outDir: 'dist',
  cacheDir: '.cache',
  // The README names addresses of the server that one starts with it. All other dead links are errors.
  ignoreDeadLinks: 'localhostLinks',
  markdown: {
    config(md) {
      const renderCode = md.renderer.rules.code_inline!
      // `{{field}}` is text here, and not a template of Vue.
      md.renderer.rules.code_inline = (...args) => renderCode(...args).replace('<code', '<code v-pre')
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Documentation', link: '/docs/' },
      { text: 'API', link: '/docs/reference/api/' },
      { text: 'Changes', link: '/CHANGELOG' },
    ],
    sidebar: [
      ...shelves(),
      { text: 'API', link: '/docs/reference/api/', collapsed: true, items: apiPages() },
      { text: 'Decisions', link: '/docs/decisions/', collapsed: true, items: decisions() },
    ],
  },
})
