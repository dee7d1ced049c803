import { randomInt } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

/**
 * Resolves to a free TCP port of this machine that is likely to stay free. The port is below the ephemeral ports of the
 * system, and above the ports that browsers and `fetch` refuse (up to 10080). No other test of the run gets this port.
 * So a server that was stopped or killed can start again on its port.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_100, 32_000)
    if (reserve(port) && (await isFree(port))) return port
  }
}

const reservedHere = new Set<number>()

/**
 * Reserves a port. The tests of a run are executed by several processes, so a reservation is a file in a shared folder.
 */
function reserve(port: number): boolean {
  if (reservedHere.has(port)) return false
  reservedHere.add(port)
  const folder = process.env.DOORBELL_TEST_PORTS
  if (folder === undefined) return true
  mkdirSync(folder, { recursive: true })
  try {
    writeFileSync(join(folder, String(port)), '', { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(error)
    })
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
