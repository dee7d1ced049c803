/** `doorbell doctor`: checks the server itself, and the other servers that it calls. */
import type { Config } from '../../config/config.ts'
import { createSigningKeyStore } from '../../openid-provider/signing-keys/signing-key-store.ts'
import { type Answer, call } from '../client-role/web.ts'
import { openCommandContext } from '../context/desk.ts'
import { isDatabaseMissing } from './database.ts'
import type { Finding } from './finding.ts'
import { whyUnreachable } from './unreachable.ts'

/** Milliseconds within which each of the other servers must respond. */
export const answersWithinMs = 3000

export async function examineServer(config: Config): Promise<Finding[]> {
  const { issuer } = config
  const about = 'issuer'
  const clockSkipped: Finding = { about: 'clock', state: 'skipped', says: 'there is no clock to compare it with' }
  try {
    const answer = await call(`${issuer}/.well-known/openid-configuration`, {
      signal: AbortSignal.timeout(answersWithinMs),
    })
    return [await judgeIssuer(answer, config), examineClock(answer) ?? clockSkipped]
  } catch (error) {
    return [{ about, state: 'warn', ...whyUnreachable(error, { url: issuer, setting: 'issuer' }) }, clockSkipped]
  }
}

async function judgeIssuer({ status, body }: Answer, config: Config): Promise<Finding> {
  const { issuer } = config
  const about = 'issuer'
  if (status !== 200) {
    const advice = 'does a proxy forward this address to another server?'
    return { about, state: 'fail', says: `the server at ${issuer} is not an OpenID provider (${status})`, advice }
  }
  if (body.issuer === issuer) {
    if (await isOurs(String(body.jwks_uri), config)) return { about, state: 'ok', says: `${issuer} answers` }
    const advice =
      'another Doorbell listens there, perhaps a forgotten one: stop it, or correct "issuer", "port" or "database"'
    return { about, state: 'fail', says: `the server at ${issuer} uses another database than this command`, advice }
  }
  const advice = 'clients compare it character by character: the setting "issuer" and the address must be the same'
  return { about, state: 'fail', says: `the server at ${issuer} has the issuer ${String(body.issuer)}`, advice }
}

/**
 * Resolves to whether the server publishes a key of this database. A server on another database has other keys. Also
 * resolves to true if the keys cannot be compared: other findings say what is wrong with the database or the server.
 */
async function isOurs(jwksUri: string, config: Config): Promise<boolean> {
  if (isDatabaseMissing(config)) return config.database === 'sqlite::memory:'
  try {
    const signal = AbortSignal.timeout(answersWithinMs)
    const { body } = await call(jwksUri, { signal })
    const published = (body.keys as { kid?: unknown }[]).map(({ kid }) => kid)
    const stored = await openCommandContext(
      config,
      async () => {},
      ({ database }) => createSigningKeyStore(database).list(),
    )
    return stored.some(({ kid }) => published.includes(kid))
  } catch {
    return true
  }
}

/**
 * Accepted difference between the clocks of this machine and of another server, in milliseconds. With a larger
 * difference, tokens are refused.
 */
const tolerableMs = 5_000

function examineClock({ headers }: Answer): Finding | undefined {
  const about = 'clock'
  const there = Date.parse(headers.get('date') ?? '')
  if (Number.isNaN(there)) return undefined
  // The Date header has a resolution of one second, so one second of the difference is ignored.
  const apart = Math.max(0, Math.abs(Date.now() - there) - 1000)
  if (apart <= tolerableMs) return { about, state: 'ok', says: "agrees with the issuer's" }
  const says = `${Math.round(apart / 1000)} s different from the issuer's`
  return {
    about,
    state: 'fail',
    says,
    advice: 'tokens carry start and end times: set the clocks of both machines by NTP',
  }
}

/**
 * Checks the other servers: the provider where users sign in, the address for mutual TLS, and the issuers of
 * login_hint_tokens.
 */
export async function examineOthers({ issuer, login, hints, mutualTls, tls }: Config): Promise<Finding[]> {
  const discovery = '/.well-known/openid-configuration'
  const asked = [
    ...(login.issuer === 'self' ? [] : [['login', login.issuer.replace(/\/+$/, '') + discovery, 'login.issuer']]),
    // If this server terminates TLS itself, the address for mutual TLS leads to this server, which has already been
    // checked.
    ...(mutualTls === undefined || tls !== undefined
      ? []
      : [['mutual tls', mutualTls.issuer + discovery, 'mutualTls.issuer']]),
    ...hints.tokenIssuers.flatMap(({ jwksUri }) =>
      jwksUri === undefined ? [] : [['hints', jwksUri, 'hints.tokenIssuers']],
    ),
  ] as [about: string, url: string, setting: string][]
  const findings = await Promise.all(asked.map(([about, url, setting]) => examineOther(about, url, setting)))
  const redirectUri = `; the redirect URI of this server is ${issuer}/session/callback`
  return findings.map((each) => (each.about === 'login' ? { ...each, says: each.says + redirectUri } : each))
}

async function examineOther(about: string, url: string, setting: string): Promise<Finding> {
  const { host } = new URL(url)
  const advice = `is ${setting} right?`
  try {
    const { status, body } = await call(url, { signal: AbortSignal.timeout(answersWithinMs) })
    const isThere = status === 200 && ('issuer' in body || Array.isArray(body.keys))
    if (isThere) return { about, state: 'ok', says: `${host} answers` }
    return { about, state: 'fail', says: `${host} gives an unexpected answer (${status})`, advice }
  } catch (error) {
    return { about, state: 'fail', ...whyUnreachable(error, { url, setting }) }
  }
}
