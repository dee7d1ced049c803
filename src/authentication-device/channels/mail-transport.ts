/** The connections to the mail server, and the meaning of its errors. */
import { isIP } from 'node:net'
import { getCACertificates } from 'node:tls'
import type { Outcome } from '../../outbox/notification.ts'
import { isLoopback } from '../../platform/http/web-address.ts'

export interface MailServer {
  /** `smtp://user:password@host:port`, or `smtps://` for TLS from the first byte. */
  smtp: string
  /** PEM certificates of authorities that are trusted in addition to the authorities that Node trusts. */
  ca?: string | undefined
  /** The host name with which this server introduces itself. */
  hostname: string
  /** Milliseconds for a whole delivery: DNS, connection, transfer. */
  timeout: number
}

/** Imported when the first mail is sent, because most Doorbell servers send no mail. */
const nodemailer = () => import('nodemailer')

/** Resolves to a transport that keeps its connections open for some seconds after a mail, for further mails. */
export async function openTransport(server: MailServer) {
  const { createTransport } = await nodemailer()
  return createTransport({
    ...settingsFor(server),
    pool: true,
    maxConnections: 10,
    // Milliseconds. A mail server also closes idle connections, but only after some minutes.
    idleTimeout: 10_000,
    // Nodemailer sends a mail once more only if the mail server has closed the connection. The outbox makes all other
    // retries.
    maxRequeues: 1,
  })
}

/** Resolves to a transport that closes its connection after each mail. */
export async function openTransportForOne(server: MailServer, more: object = {}) {
  const { createTransport } = await nodemailer()
  return createTransport({ ...settingsFor(server), ...more })
}

/**
 * Connects to the mail server and authenticates. Resolves to undefined if both steps succeed, or to the reason of the
 * failure.
 */
export async function tryMailServer(server: MailServer): Promise<string | undefined> {
  const transport = await openTransportForOne(server)
  try {
    await transport.verify()
    return undefined
  } catch (error) {
    return meaningOfRefusal(error).words
  } finally {
    transport.close()
  }
}

function settingsFor({ smtp, ca, hostname, timeout }: MailServer) {
  const url = new URL(smtp)
  const secure = url.protocol === 'smtps:'
  const isOnThisMachine = isLoopback(url.hostname)
  const hasPassword = url.username !== ''
  return {
    host: unbracketed(url.hostname),
    port: Number(url.port || (secure ? 465 : 587)),
    secure,
    name: greetingName(hostname),
    tls: {
      // The option `ca` replaces Node's list of certificates, so Node's list is added to it.
      ...(ca !== undefined && { ca: [...getCACertificates('default'), ca] }),
      // A newly installed mail server usually has a self-signed certificate. Such a certificate is accepted only if the
      // mail server is on this machine, where no attacker can impersonate it, and if no password is sent.
      ...(ca === undefined && isOnThisMachine && !hasPassword && { rejectUnauthorized: false }),
    },
    ...(hasPassword && {
      auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) },
      // STARTTLS is required. If it were optional, an attacker could remove the server's offer of STARTTLS and read the
      // password.
      requireTLS: !secure && !isOnThisMachine,
    }),
    dnsTimeout: timeout,
    connectionTimeout: timeout,
    greetingTimeout: timeout,
    socketTimeout: timeout,
    socketCloseTimeout: 0,
    disableFileAccess: true,
    disableUrlAccess: true,
  }
}

const unbracketed = (hostname: string) => hostname.replace(/^\[|\]$/g, '')

/** Returns the argument of EHLO: a host name, or an address in brackets (RFC 5321 §4.1.3). */
function greetingName(hostname: string): string {
  const host = unbracketed(hostname)
  return { 4: `[${host}]`, 6: `[IPv6:${host}]` }[isIP(host)] ?? host
}

interface SmtpError {
  code?: string
  /** The code of the original error, if nodemailer has replaced the original error by another error. */
  originalCode?: string
  responseCode?: number
  response?: string
}

/**
 * Returns the outcome of a failed delivery. A 5xx response and an invalid address are permanent errors. After all other
 * failures, the delivery is retried. The response text of the mail server is not stored, because it may contain the
 * user's address.
 */
export function meaningOfRefusal(error: unknown): Outcome {
  const { code, originalCode = code, responseCode, response } = error as SmtpError
  if (responseCode !== undefined) {
    const detail = /^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})\b/.exec(response ?? '')?.[1]
    const words = `the mail server answered ${responseCode}${detail === undefined ? '' : ` (${detail})`}`
    return { kind: responseCode >= 500 ? 'refused' : 'failed', words }
  }
  if (code === 'EENVELOPE') return { kind: 'refused', words: 'the mail address is not valid' }
  if (code === 'EABORT' || code === 'ETIMEDOUT') return { kind: 'failed', words: 'timeout' }
  const certificate = meaningOfCertificate(originalCode)
  if (certificate !== undefined) return { kind: 'failed', words: `${certificate} (${originalCode})` }
  return { kind: 'failed', words: `the mail server cannot be reached (${originalCode ?? 'unknown'})` }
}

/** Returns what is wrong with the certificate, by the error code of Node or OpenSSL; undefined for other errors. */
function meaningOfCertificate(code = ''): string | undefined {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'the certificate of the mail server is for another host name'
  if (code === 'CERT_HAS_EXPIRED') return 'the certificate of the mail server has expired'
  if (code === 'CERT_NOT_YET_VALID') return 'the certificate of the mail server is not valid yet'
  return /CERT|LEAF_SIGNATURE/.test(code)
    ? 'the certificate of the mail server is not trusted: name its authority in email.ca'
    : undefined
}
