/** A proxy that does not tell the server when a client disconnects, like HAProxy without `option abortonclose`. */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { closeAfter } from './teardown.ts'

export interface SilentProxy {
  url: string
  /**
   * Returns the number of responses of the server that have reached the proxy, including those whose client had
   * disconnected.
   */
  answers(): number
}

/** @param port the port of the server */
export async function openSilentProxy(t: TestContext, port: number): Promise<SilentProxy> {
  let answers = 0
  const proxy = createServer((incoming, outgoing) => {
    outgoing.on('error', () => {})
    const { url: path, method, headers } = incoming
    const forwarded = request({ host: 'localhost', port, path, method, headers, agent: false }, (answer) => {
      answers += 1
      outgoing.writeHead(answer.statusCode!, answer.headers)
      answer.on('error', () => {}).pipe(outgoing)
    })
    forwarded.on('error', () => outgoing.destroy())
    incoming.pipe(forwarded)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  closeAfter(t, async () => {
    proxy.closeAllConnections()
    proxy.close()
  })
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, answers: () => answers }
}
