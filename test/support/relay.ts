/** A fixed address whose target can change, for failover and for broken connections. */
import { connect, createServer, type Socket } from 'node:net'

export interface Relay {
  port: number
  /** From now on connections lead to this port. */
  leadTo(port: number): void
  /** Breaks every connection. Until `leadTo`, new ones break at once. */
  cut(): void
  close(): void
}

export async function openRelay(): Promise<Relay> {
  const sockets = new Set<Socket>()
  let target: number | undefined

  const server = createServer((near) => {
    if (target === undefined) return void near.destroy()
    const far = connect(target, '127.0.0.1')
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
          other.destroy()
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
    close() {
      cut()
      server.close()
    },
  }
}
