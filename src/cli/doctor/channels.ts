/** `doorbell doctor`: checks the channels that notify users. */
import { connect } from 'node:net'
import { tryMailServer } from '../../authentication-device/channels/mail-transport.ts'
import type { Config } from '../../config/config.ts'
import type { Finding } from './finding.ts'
import { answersWithinMs } from './others.ts'

export async function examineChannels(config: Config): Promise<Finding[]> {
  const about = 'channels'
  const findings = [
    ...(config.email ? [await examineMail(config)] : []),
    ...(config.webPush ? [examineWebPush(config.webPush)] : []),
    ...(config.deviceWebhook ? [await examineWebhook(config.deviceWebhook)] : []),
    ...('notify' in config.users ? [{ about, state: 'ok', says: 'the hook "notify" is called' } as const] : []),
  ]
  if (config.development) {
    return [{ about, state: 'ok', says: 'users are notified through the mailbox at /dev/mailbox' }, ...findings]
  }
  if (findings.length > 0) return findings
  const advice = 'set email, webPush or deviceWebhook, or let the app of the users poll /backchannel/authinfo'
  return [{ about, state: 'warn', says: 'none: users are not notified of requests', advice }]
}

async function examineMail({ email, notifications, issuer }: Config): Promise<Finding> {
  const about = 'mail'
  const { host } = new URL(email!.smtp)
  const { hostname } = new URL(issuer)
  const trouble = await tryMailServer({ ...email!, hostname, timeout: notifications.timeout * 1000 })
  if (trouble === undefined) return { about, state: 'ok', says: `${host} accepts mail from ${email!.from}` }
  const advice = 'is email.smtp (DOORBELL_EMAIL_SMTP) right: host, port, user and password?'
  return { about, state: 'fail', says: `${host}: ${trouble}`, advice }
}

/** Checks the address to which push services report problems. Some push services refuse hosts such as `example.com`. */
function examineWebPush({ subject }: NonNullable<Config['webPush']>): Finding {
  const about = 'web push'
  const host = subject.startsWith('mailto:') ? subject.split('@')[1]! : new URL(subject).hostname
  if (!/(^|\.)(localhost|example\.(com|org|net)|example|invalid|test)$/i.test(host)) {
    return { about, state: 'ok', says: `push services report problems to ${subject}` }
  }
  const advice = 'set webPush.subject to an address of yours: some push services require one'
  return { about, state: 'warn', says: `mail to ${subject} reaches no operator`, advice }
}

async function examineWebhook({ url }: NonNullable<Config['deviceWebhook']>): Promise<Finding> {
  const about = 'device webhook'
  const { host, hostname, port, protocol } = new URL(url)
  try {
    await reach(hostname.replace(/^\[|\]$/g, ''), Number(port || (protocol === 'https:' ? 443 : 80)))
    return { about, state: 'ok', says: `${host} can be reached` }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
    const advice = 'is the service running, and is deviceWebhook.url right?'
    return { about, state: 'fail', says: `${host} cannot be reached (${code})`, advice }
  }
}

/**
 * Connects and disconnects without sending data, because the service expects only notifications of requests, and no
 * test data.
 */
function reach(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: answersWithinMs })
    socket.once('error', reject)
    socket.once('timeout', () => socket.destroy(new Error('timeout')))
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}
