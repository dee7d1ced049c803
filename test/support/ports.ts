import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Resolves to a free TCP port of this machine that is likely to stay free: below the ephemeral ports of the system, and
 * above the ports that browsers and `fetch` refuse (10080 is the last of them).
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_100, 32_000)
    if (await isFree(port)) return port
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
