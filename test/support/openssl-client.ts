/**
 * A client that uses the program `openssl s_client`. Its TLS behaves differently from Node's, and it prints what the
 * server requests.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Certified } from './certificates.ts'

export interface OpensslCall {
  version: 'tls1_2' | 'tls1_3'
  certified?: Certified | undefined
  /** Certificates of authorities that the client sends after its own. */
  chain?: readonly Certified[]
  /** The path of a file to which the TLS session of this call is written. */
  sessionTo?: string
  /** The path of a file with the TLS session that this call resumes. */
  sessionFrom?: string
}

export interface OpensslAnswer {
  status: number
  isResumed: boolean
  /** Everything that the program has printed: the handshake, and the response. */
  printed: string
}

export interface OpensslClient {
  /** POSTs a form to a path of the server, on a new connection. */
  post(path: string, form: Record<string, string>, call: OpensslCall): Promise<OpensslAnswer>
  /** Returns the path of a new file in the folder of this client. */
  newFile(): string
}

/** Returns a client of the server at this address on this machine. */
export async function openOpensslClient(t: TestContext, url: string): Promise<OpensslClient> {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-openssl-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  let files = 0
  const newFile = () => join(folder, `${files++}.pem`)
  const written = async (text: string) => {
    const file = newFile()
    await writeFile(file, text)
    return file
  }
  const { port } = new URL(url)
  return {
    newFile,
    async post(path, form, { version, certified, chain = [], sessionTo, sessionFrom }) {
      const given = {
        '-cert': certified && (await written(certified.cert)),
        '-key': certified && (await written(certified.key)),
        '-cert_chain': chain.length === 0 ? undefined : await written(chain.map(({ cert }) => cert).join('')),
        '-sess_out': sessionTo,
        '-sess_in': sessionFrom,
      }
      const options = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [name, value]))
      // This security level lets clients with weak keys connect.
      const weak = ['-cipher', 'DEFAULT@SECLEVEL=0']
      const server = ['-connect', `127.0.0.1:${port}`, '-servername', 'localhost']
      const printed = await run(
        ['s_client', ...server, `-${version}`, '-ign_eof', ...weak, ...options],
        httpPost(path, form),
      )
      // The program may print the response before it has printed the whole handshake.
      const status = /HTTP\/1\.1 (\d{3}) /.exec(printed)?.[1]
      if (status === undefined) throw new Error(`openssl got no response: ${printed}`)
      return { status: Number(status), isResumed: /^Reused, TLS/m.test(printed), printed }
    },
  }
}

function httpPost(path: string, form: Record<string, string>): string {
  const body = String(new URLSearchParams(form))
  const headers = [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  return `${headers.join('\r\n')}\r\n\r\n${body}`
}

function run(options: string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const client = spawn('openssl', options)
    let printed = ''
    for (const stream of [client.stdout, client.stderr]) stream.on('data', (text) => (printed += text))
    client.on('error', reject)
    client.on('close', () => resolve(printed))
    client.stdin.end(input)
  })
}
