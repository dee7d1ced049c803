/**
 * A name server on a loopback address. It returns the addresses of known names, and an error for all other names. It
 * does not answer queries about names that were passed to `hush`.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'
import type { TestContext } from 'node:test'
import { inTime } from './until.ts'

export interface NameServer {
  /** In the form that `Resolver.setServers` accepts. */
  address: string
  /** The queries so far, such as `a.example A`. */
  asked: string[]
  /** Sets the addresses of a name. */
  tell(name: string, addresses: string[]): void
  /** Stops answering queries about matching names, or only queries of one type. */
  hush(names: RegExp, type?: 'A' | 'AAAA'): void
  /** Resolves when `holds` returns true. `holds` is called after each query. Rejects after 20 seconds. */
  until(holds: () => boolean): Promise<void>
}

const types: Record<number, 'A' | 'AAAA'> = { 1: 'A', 28: 'AAAA' }

export async function openNameServer(t: TestContext): Promise<NameServer> {
  const socket = createSocket('udp4')
  const known = new Map<string, string[]>()
  const hushed: { names: RegExp; type: 'A' | 'AAAA' | undefined }[] = []
  const asked: string[] = []
  let heard = () => {}
  socket.on('message', (question, { port, address }) => {
    const { name, type } = read(question)
    asked.push(`${name} ${type}`)
    heard()
    if (hushed.some((each) => each.names.test(name) && (each.type ?? type) === type)) return
    socket.send(answer(question, known.get(name), type), port, address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  // The buffer is large, because many resolvers send queries at the same time. If a query is lost, the resolver repeats
  // it only after seconds.
  socket.setRecvBufferSize(4 * 1024 * 1024)
  t.after(() => socket.close())
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    tell: (name, addresses) => void known.set(name, addresses),
    hush: (names, type) => void hushed.push({ names, type }),
    until(holds) {
      const held = new Promise<void>((resolve) => {
        heard = () => {
          if (holds()) resolve()
        }
        heard()
      })
      return inTime(held, () => `${holds}; the name server got ${asked.length} queries`)
    },
  }
}

const headerLength = 12

function read(question: Buffer): { name: string; type: 'A' | 'AAAA'; end: number } {
  const labels: string[] = []
  let at = headerLength
  for (let length = question[at]!; length > 0; length = question[at]!) {
    labels.push(question.subarray(at + 1, at + 1 + length).toString())
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: types[question.readUInt16BE(at + 1)]!, end: at + 5 }
}

/**
 * Returns the response to a query (RFC 1035 §4): the header, the question, and a record for each address of the queried
 * type.
 */
function answer(question: Buffer, addresses: string[] | undefined, type: 'A' | 'AAAA'): Buffer {
  const records = (addresses ?? []).filter((each) => isIPv4(each) === (type === 'A')).map((each) => record(each))
  const header = Buffer.from(question.subarray(0, headerLength))
  const nameError = 3
  header.writeUInt16BE(0x8180 + (addresses === undefined ? nameError : 0), 2)
  header.writeUInt16BE(records.length, 6)
  header.fill(0, 8)
  return Buffer.concat([header, question.subarray(headerLength, read(question).end), ...records])
}

function record(address: string): Buffer {
  const data = isIPv4(address) ? Buffer.from(address.split('.').map(Number)) : bytesOf6(address)
  const head = Buffer.alloc(12)
  head.writeUInt16BE(0xc000 + headerLength, 0)
  head.writeUInt16BE(isIPv4(address) ? 1 : 28, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt32BE(60, 6)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

function bytesOf6(address: string): Buffer {
  const [before = '', after = ''] = address.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const zeros = Array.from({ length: 8 - groups(before).length - groups(after).length }, () => '0')
  const all = [...groups(before), ...zeros, ...groups(after)]
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex')
}
