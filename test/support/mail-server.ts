/** A mail server that stores all mails, can reject recipients, and can be stopped. */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { SMTPServer } from 'smtp-server'
import { freePort } from './ports.ts'

export interface ReceivedMail {
  to: string[]
  /** The names are in lower case. The values are as received, with folded lines joined. */
  headers: Record<string, string>
  subject: string
  text: string
  html: string
  /** The whole mail, as received. */
  raw: string
}

export interface MailServer {
  /** smtp://127.0.0.1:<port>, or smtps:// */
  url: string
  mails: ReceivedMail[]
  /** The name that the client sent with EHLO, for each mail, in lower case. */
  introductions: string[]
  /** The number of connections so far. */
  connections: number
  /**
   * Sets the response to each recipient: an error such as `550 5.1.1 no such person`, or undefined to accept the
   * recipient.
   */
  refuses(answer: string | undefined): void
  /** Resolves when no connection is open. */
  allClosed(): Promise<void>
  /** Closes all connections, as a mail server closes idle connections. */
  hangUp(): void
  stop(): Promise<void>
  start(): Promise<void>
}

export interface MailServerOptions {
  /**
   * The key and the certificate, in PEM. If they are given, the server offers STARTTLS, or uses TLS from the first
   * byte.
   */
  tls?: { key: string; cert: string; fromTheFirstByte?: boolean }
  /** Whether the server offers SMTPUTF8 (RFC 6531). */
  smtpUtf8?: boolean
}

export async function openMailServer(
  t: TestContext,
  { tls, smtpUtf8 = true }: MailServerOptions = {},
): Promise<MailServer> {
  const mails: ReceivedMail[] = []
  const introductions: string[] = []
  const sockets = new Set<Socket>()
  const port = await freePort()
  let refusal: string | undefined
  let server: SMTPServer | undefined

  const listen = async () => {
    server = new SMTPServer({
      authOptional: true,
      ...(tls === undefined ? { disabledCommands: ['STARTTLS', 'AUTH'] } : { key: tls.key, cert: tls.cert }),
      secure: tls?.fromTheFirstByte ?? false,
      disableReverseLookup: true,
      // Clients keep their connections open for a while. When the server closes, it does not wait for these clients.
      closeTimeout: 1,
      onAuth: (_auth, _session, callback) => callback(null, { user: 'anybody' }),
      onMailFrom(_address, session, callback) {
        introductions.push(session.hostNameAppearsAs)
        callback()
      },
      hideSMTPUTF8: !smtpUtf8,
      onRcptTo(_address, _session, callback) {
        const responseCode = Number(refusal?.slice(0, 3))
        callback(refusal === undefined ? null : Object.assign(new Error(refusal.slice(4)), { responseCode }))
      },
      async onData(stream, session, callback) {
        const chunks: Buffer[] = []
        for await (const chunk of stream) chunks.push(chunk as Buffer)
        const raw = Buffer.concat(chunks).toString('latin1')
        mails.push(
          readMail(
            raw,
            session.envelope.rcptTo.map(({ address }) => address),
          ),
        )
        callback()
      },
    })
    server.on('error', () => {})
    server.server.on('connection', (socket: Socket) => {
      result.connections += 1
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    })
    server.listen(port, '127.0.0.1')
    await once(server.server, 'listening')
  }
  const stop = () => new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()))

  const result: MailServer = {
    url: `${tls?.fromTheFirstByte ? 'smtps' : 'smtp'}://127.0.0.1:${port}`,
    mails,
    introductions,
    connections: 0,
    refuses(answer) {
      refusal = answer
    },
    async allClosed() {
      await Promise.all([...sockets].map((socket) => once(socket, 'close')))
    },
    hangUp() {
      for (const socket of sockets) socket.destroy()
    },
    stop,
    start: listen,
  }
  await listen()
  t.after(stop)
  return result
}

function readMail(raw: string, to: string[]): ReceivedMail {
  const { headers, body } = readPart(raw)
  const boundary = /boundary="?([^";]+)"?/.exec(headers['content-type'] ?? '')?.[1]
  const parts = boundary === undefined ? [] : body.split(`--${boundary}`).slice(1, -1).map(readPart)
  const find = (type: string) => parts.find((part) => part.headers['content-type']?.startsWith(type))
  return {
    to,
    headers,
    subject: decodeWords(headers.subject ?? ''),
    text: decodePart(find('text/plain')),
    html: decodePart(find('text/html')),
    raw,
  }
}

interface Part {
  headers: Record<string, string>
  body: string
}

function readPart(raw: string): Part {
  const trimmed = raw.replace(/^\r\n/, '')
  const end = trimmed.indexOf('\r\n\r\n')
  const lines = trimmed
    .slice(0, end)
    .replace(/\r\n[ \t]+/g, ' ')
    .split('\r\n')
  const headers = lines.map((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  })
  return { headers: Object.fromEntries(headers) as Record<string, string>, body: trimmed.slice(end + 4) }
}

function decodePart(part: Part | undefined): string {
  if (part === undefined) return ''
  const encoding = part.headers['content-transfer-encoding']
  if (encoding === 'base64') return Buffer.from(part.body, 'base64').toString('utf8').replaceAll('\r\n', '\n')
  const plain =
    encoding === 'quoted-printable' ? part.body.replace(/=\r\n/g, '').replace(/=([0-9A-F]{2})/g, byte) : part.body
  return Buffer.from(plain, 'latin1').toString('utf8').replaceAll('\r\n', '\n').trimEnd()
}

const byte = (_match: string, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))

/** Decodes the encoded words of RFC 2047, such as `=?UTF-8?Q?caf=C3=A9?=`. */
function decodeWords(header: string): string {
  return header
    .replace(/\?=\s+=\?/g, '?==?')
    .replace(/=\?utf-8\?([bq])\?([^?]*)\?=/gi, (_match, kind: string, text: string) => {
      const bytes =
        kind.toLowerCase() === 'b'
          ? Buffer.from(text, 'base64')
          : Buffer.from(text.replaceAll('_', ' ').replace(/=([0-9A-F]{2})/g, byte), 'latin1')
      return bytes.toString('utf8')
    })
}
