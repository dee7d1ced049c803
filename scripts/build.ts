/** Builds dist/: JavaScript and types by tsc, and the files that are read at run time. */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
for (const file of globSync('src/**/*.{sql,eta,css,js,json,svg}')) {
  cpSync(file, file.replace(/^src/, 'dist'))
}
