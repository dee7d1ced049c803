/** Builds dist/. tsc compiles JavaScript and types; the files that are read at run time are copied. */
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
const { status } = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
if (status !== 0) {
  console.error('The build failed: see the errors of tsc above.')
  process.exit(1)
}
for (const file of globSync('src/**/*.{sql,eta,css,js,json,svg}')) {
  cpSync(file, file.replace(/^src/, 'dist'))
}
