/** A fixed port whose target can change. For tests of failover, broken connections, and connections without data. */
import { connect, createServer, type Socket } from 'node:net'

export interface Relay {
  port: number
  /** From now on, new connections lead to this port. */
  leadTo(port: number): void
  /** Breaks every connection. Until `leadTo` is called, new connections break at once. */
  cut(): void
  /**
   * From now on, the existing connections, except the first `kept`, stay open and pass no data on, as if the other
   * machine had no power. New connections work.
   */
  freeze(kept?: number): void
  close(): void
}

export async function openRelay(): Promise<Relay> {
  const sockets = new Set<Socket>()
  /** The two sockets of each connection: to the caller, and to the target. */
  const connections = new Set<readonly [Socket, Socket]>()
  let target: number | undefined

  const server = createServer((near) => {
    if (target === undefined) return void near.destroy()
    const far = connect(target, '127.0.0.1')
    const connection = [near, far] as const
    connections.add(connection)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket
        .on('error', () => {})
        .once('close', () => {
          sockets.delete(socket)
          if (connections.delete(connection)) other.destroy()
        })
      socket.pipe(other)
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

  function cut(): void {
    target = undefined
    for (const socket of sockets) socket.destroy()
  }

  return {
    port: (server.address() as { port: number }).port,
    leadTo(port) {
      target = port
    },
    cut,
    freeze(kept = 0) {
      for (const connection of [...connections].slice(kept)) {
        connections.delete(connection)
        for (const socket of connection) socket.unpipe().resume()
      }
    },
    close() {
      cut()
      server.close()
    },
  }
}
