import { fileURLToPath } from 'node:url'

/**
 * Hundreds of processes load the same files. They share the code that the first one has compiled: this halves the time
 * that a command or a test takes to start.
 */
export const compileCache = fileURLToPath(new URL('../../node_modules/.cache/compiled', import.meta.url))
