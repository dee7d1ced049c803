/** A relay between a server and its Postgres. It can make the next commit fail. */
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { inTime } from './until.ts'

/**
 * - `lost`: the connection breaks before the commit arrives;
 * - `answer lost`: the commit arrives, and the connection breaks before its response does;
 * - `kept`: the commit is not passed on, as if the server did not run, and the connection stays open;
 * - `answer kept`: the commit arrives, its response is not passed on, and the connection stays open.
 */
export type Mishap = 'lost' | 'answer lost' | 'kept' | 'answer kept'

export interface PostgresWire {
  /** The URL that replaces the database's own. */
  url: string
  /**
   * Makes the next commits fail in this way. Resolves when these commits were sent; with `answer kept`, when Postgres
   * has answered them. Rejects after 20 seconds.
   */
  next(mishap: Mishap, commits?: number): Promise<void>
  /** From now on, responses are not passed on. `letGo` passes them on, for each connection in one piece. */
  keepAnswers(): { saying(words: string): number; letGo(): void }
}

/** The bytes of a commit: `pg` sends it as a simple query. */
const commit = Buffer.from('commit\0')

export async function openPostgresWire(t: TestContext, database: string): Promise<PostgresWire> {
  const { hostname, port } = new URL(database)
  const sockets = new Set<Socket>()
  let kept: Map<Socket, Buffer> | undefined
  let awaited: { mishap: Mishap; left: number; sent: () => void } | undefined

  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {}).once('close', () => sockets.delete(socket))
    }
    const cut = () => {
      near.destroy()
      far.destroy()
    }
    near.on('data', (chunk) => {
      if (awaited === undefined || !chunk.includes(commit)) return far.write(chunk)
      const { mishap, sent } = awaited
      awaited.left -= 1
      if (awaited.left === 0) awaited = undefined
      if (mishap === 'lost') cut()
      if (mishap === 'answer lost') {
        far.removeAllListeners('data').once('data', cut)
        far.write(chunk)
      }
      if (mishap === 'answer kept') {
        far.removeAllListeners('data').once('data', sent).resume()
        return far.write(chunk)
      }
      return sent()
    })
    far.on('data', (chunk) => {
      if (kept === undefined) near.write(chunk)
      else kept.set(near, Buffer.concat([kept.get(near) ?? Buffer.alloc(0), chunk]))
    })
    near.once('close', () => far.destroy())
    far.once('close', () => {
      if (!kept?.has(near)) near.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const url = new URL(database)
  url.port = String((server.address() as { port: number }).port)
  return {
    url: url.href,
    next(mishap, commits = 1) {
      const all = Promise.withResolvers<void>()
      let unsent = commits
      const sent = () => {
        unsent -= 1
        if (unsent === 0) all.resolve()
      }
      awaited = { mishap, left: commits, sent }
      return inTime(all.promise, () => `${unsent} of ${commits} commits on the wire to Postgres (${mishap})`)
    },
    keepAnswers() {
      const answers = new Map<Socket, Buffer>()
      kept = answers
      return {
        saying: (words) => [...answers.values()].filter((answer) => answer.includes(words)).length,
        letGo() {
          kept = undefined
          for (const [near, answer] of answers) near.write(answer)
        },
      }
    },
  }
}
