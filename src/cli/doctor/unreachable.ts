/** `doorbell doctor`: says why a server could not be called, and what to do, by the code of the error. */
import { codeOf } from '../client-role/web.ts'

interface Told {
  says: string
  advice: string
}

/** What is known about the server that could not be called. */
export interface Called {
  url: string
  /** The setting that contains the address. */
  setting: string
}

/** Returns why the server could not be called, and what to do about it. */
export function whyUnreachable(error: unknown, { url, setting }: Called): Told {
  const { origin, hostname } = new URL(url)
  const code = codeOf(error)
  const because = code === '' ? '' : ` (${code})`
  const isTls = /CERT|^UNABLE_TO_|^HOSTNAME_MISMATCH/.test(code)
  if (isTls)
    return { says: `the certificate of ${origin} is not accepted${because}`, advice: adviceOnCertificate(code) }
  switch (code) {
    case 'ECONNREFUSED':
      return {
        says: `no server listens at ${origin}${because}`,
        advice: `start the server, or correct ${setting}; if a proxy is in front of the server, start the proxy`,
      }
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return {
        says: `the name ${hostname} cannot be resolved${because}`,
        advice: `correct ${setting}, or add the name to DNS or to the hosts file`,
      }
    case 'timeout':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'UND_ERR_CONNECT_TIMEOUT':
      return {
        says: `${origin} does not answer in time${because}`,
        advice: `can this machine reach it (network, firewall), and is ${setting} right?`,
      }
    default:
      return {
        says: `${origin} cannot be called${because}`,
        advice: `does the server there speak ${origin.startsWith('https') ? 'TLS' : 'HTTP without TLS'}, and is ${setting} right?`,
      }
  }
}

function adviceOnCertificate(code: string): string {
  if (code === 'CERT_HAS_EXPIRED') return 'renew the certificate'
  if (code === 'CERT_NOT_YET_VALID') return 'correct the clock of this machine, or the certificate'
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID' || code === 'HOSTNAME_MISMATCH') {
    return 'get a certificate that contains this host name'
  }
  return 'if the authority is your own: NODE_EXTRA_CA_CERTS=<file>, for this command and for clients. If not, let the server also send the certificates between its own and the authority'
}
