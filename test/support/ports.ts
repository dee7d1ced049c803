import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * A TCP port on this machine that is free now, and likely to stay so: below those that the system gives to whoever
 * connects to somebody, and above those that browsers, and `fetch`, call nobody at (10080 is the last of them).
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
