/** Finds and reads the configuration file. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type LoadFnOutput, registerHooks } from 'node:module'
import { basename, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { isPlain } from '../platform/validation.ts'

/** The names of the configuration file, in the order of the search. */
export const configFileNames = ['doorbell.config.ts', 'doorbell.config.js', 'doorbell.config.json']

export interface FileReading {
  input: Record<string, unknown>
  problems: string[]
}

/**
 * Returns the absolute path of the file to read, or undefined if no file was named and `cwd` contains no configuration
 * file.
 */
export function findConfigFile(named: string | undefined, cwd: string): string | undefined {
  if (named) return resolve(cwd, named)
  return configFileNames.map((name) => resolve(cwd, name)).find((path) => existsSync(path))
}

export async function readConfigFile(path: string): Promise<FileReading> {
  const name = basename(path)
  const broken = (problem: string): FileReading => ({ input: {}, problems: [`${name} ${problem}`] })
  if (!existsSync(path)) return broken('does not exist')
  if (!/\.(m?ts|m?js|json)$/.test(path)) return broken('must end in .ts, .js or .json')
  try {
    const content = path.endsWith('.json') ? parseJson(await readFile(path, 'utf8')) : await importDefault(path)
    if (content === undefined) return broken('must have a default export: export default defineConfig({ … })')
    return isPlain(content) ? { input: content, problems: [] } : broken('must contain one object of settings')
  } catch (error) {
    return broken(describe(error, name))
  }
}

class NotJson extends Error {}

/**
 * Parses a configuration file that is JSON. The message of the JSON parser is omitted, because it quotes the file,
 * which may contain secrets.
 */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    const [, line, column] = /line (\d+) column (\d+)/.exec(String(error)) ?? []
    const place = line ? ` at line ${line}, column ${column}` : ''
    const hint = hasComments(text)
      ? '; JSON has no comments; remove them, or write a doorbell.config.ts instead'
      : '; look for an extra or missing comma, quote or bracket'
    throw new NotJson(`is not JSON${place}${hint}`)
  }
}

function hasComments(text: string): boolean {
  return /\/\/|\/\*/.test(text.replace(/"(\\.|[^"\\])*"/g, '""'))
}

async function importDefault(path: string): Promise<unknown> {
  const url = pathToFileURL(path).href
  const source = await readFile(path, 'utf8')
  const isModule = /^\s*(import|export)\b/m.test(source)
  const hooks = registerHooks({
    // A file with `import` or `export` is loaded as an ES module, even if package.json has the type "commonjs". A new
    // package.json often has this type.
    load(asked, context, next): LoadFnOutput {
      if (asked !== url || !isModule) return next(asked, context)
      return next(asked, { ...context, format: /ts$/.test(path) ? 'module-typescript' : 'module' })
    },
  })
  try {
    const module: { default?: unknown } = await import(url)
    return module.default
  } finally {
    hooks.deregister()
  }
}

function describe(error: unknown, name: string): string {
  if (error instanceof NotJson) return error.message
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  // The message of a syntax error is omitted, because it quotes the file, which may contain secrets.
  if (error instanceof SyntaxError || code.includes('TYPESCRIPT')) {
    return `has a syntax error; "node ${name}" shows where`
  }
  if (code === 'ERR_MODULE_NOT_FOUND') return `cannot be loaded, because a package it imports is not installed`
  return `cannot be loaded: ${error instanceof Error ? error.message : String(error)}`
}
