/** `doorbell doctor`: checks the configuration. */
import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { longestHold } from '../../ciba/token-endpoint/long-poll.ts'
import type { Config } from '../../config/config.ts'
import { weakValues } from '../../config/weak-values.ts'
import { count } from '../context/terminal.ts'
import type { Finding } from './finding.ts'

/**
 * Checks the TLS certificate, and finds members of clients that are not used. Outside development, it also finds
 * settings that are allowed but risky.
 */
export function examineSettings(config: Config): Finding[] {
  const certificate = config.tls === undefined ? [] : [examineCertificate(config.tls.cert, config.issuer)]
  const always = [...certificate, ...examineLongPoll(config), ...unusedMembersIn(config)]
  return config.development ? always : [...always, ...secondLooks(config)]
}

function examineLongPoll({ requests: { longPoll } }: Config): Finding[] {
  if (longPoll <= longestHold) return []
  const says = `requests.longPoll is ${longPoll}, but polls are held for ${longestHold} seconds at most`
  return [{ about: 'polls', state: 'warn', says, advice: `set requests.longPoll to ${longestHold} or less` }]
}

function unusedMembersIn({ unused = [] }: Config): Finding[] {
  return unused.map(({ setting, problem }) => ({
    about: 'clients',
    state: 'warn',
    says: `${setting} ${problem}`,
    advice: 'correct the name, or remove the member',
  }))
}

/** The warning begins this many days before the certificate expires. */
const inTime = 14

function examineCertificate(pem: string, issuer: string): Finding {
  const about = 'tls'
  const shown = new X509Certificate(pem)
  const days = Math.floor((Date.parse(shown.validTo) - Date.now()) / 86_400_000)
  const { hostname } = new URL(issuer)
  const address = hostname.replace(/^\[|\]$/g, '')
  if ((isIP(address) ? shown.checkIP(address) : shown.checkHost(hostname)) === undefined) {
    const advice = 'clients refuse it: get one for the host of the issuer, or terminate TLS at a proxy'
    return { about, state: 'warn', says: `the certificate is not for ${hostname}`, advice }
  }
  if (days < 0) return { about, state: 'fail', says: 'the certificate has expired', advice: 'renew tls.cert' }
  if (days < inTime) {
    return { about, state: 'warn', says: `the certificate expires in ${count(days, 'day')}`, advice: 'renew tls.cert' }
  }
  return { about, state: 'ok', says: `the certificate is for ${hostname}, for ${count(days, 'more day')}` }
}

function secondLooks(config: Config): Finding[] {
  const { registration, requests, limits, proxy, host, tls } = config
  const warn = (about: string, says: string, advice: string): Finding => ({ about, state: 'warn', says, advice })
  const isOpen = registration.mode === 'open'
  const { perMinute } = limits.perUser
  return [
    ...weakValues(config).map(
      ({ setting, problem, isKey, advice }): Finding => ({
        about: 'secrets',
        state: isKey ? 'fail' : 'warn',
        says: `the ${setting} ${problem}`,
        advice,
      }),
    ),
    ...(isOpen && requests.unknownUsers === 'error'
      ? [
          warn(
            'registration',
            'any client may register itself, and clients can find out which users exist',
            'set requests.unknownUsers to "pretend", or registration.mode to "token"',
          ),
        ]
      : []),
    ...(isOpen && perMinute === 0
      ? [
          warn(
            'limits',
            'any client may register itself, and no limit applies to the requests that a user gets',
            'remove limits.perUser.perMinute to use its default',
          ),
        ]
      : []),
    ...(tls === undefined && proxy.trust.length === 0 && (host === '127.0.0.1' || host === '::1')
      ? [
          warn(
            'proxy',
            'the proxy in front of the server is not configured: all callers seem to come from this machine',
            'set proxy.trust to its address, so that limits apply to the real addresses',
          ),
        ]
      : []),
  ]
}
