/** VitePress's own theme, with room for tables. */
import theme from 'vitepress/theme'
import './wide.css'

export default theme
