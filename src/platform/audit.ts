/**
 * The audit stream: what happened to whom, one event a step, in one vocabulary (CD-19). docs/audit.md lists them. An
 * event names its request by the internal id; no secret, token, `auth_req_id`, hint or code is ever in one.
 */
import { type Clock, isoOf } from './clock.ts'
import type { Log } from './log.ts'

export type AuditEventName = keyof typeof levels

/** At which level each is logged. */
const levels = {
  // a request
  'request.received': 'info',
  'request.refused': 'info',
  'request.accepted': 'info',
  'request.approved': 'info',
  'request.denied': 'info',
  'request.reported': 'warn',
  'request.expired': 'info',
  'request.revoked': 'info',
  'decision.refused': 'warn',
  'limit.reached': 'warn',
  // what users' devices and clients are told
  'device.unreachable': 'error',
  'notification.delivered': 'info',
  'notification.failed': 'warn',
  'notification.parked': 'error',
  // tokens
  'tokens.issued': 'info',
  'tokens.refused': 'warn',
  // clients
  'client.refused': 'info',
  'client.configured': 'info',
  'client.added': 'info',
  'client.invited': 'info',
  'client.registered': 'info',
  'client.replaced': 'info',
  'client.settings_changed': 'info',
  'client.removed': 'warn',
  'client.blocked': 'info',
  'client.unblocked': 'info',
  // users
  'user.added': 'info',
  'user.removed': 'warn',
  'user.locked': 'warn',
  'user.unlocked': 'info',
  'user.signed_out': 'info',
  'user.erased': 'warn',
  'user.password_set': 'info',
  'sign_in.succeeded': 'info',
  'sign_in.failed': 'info',
  'sign_in.paused': 'warn',
  'session.ended': 'info',
  'passkey.added': 'info',
  'passkey.removed': 'info',
  'user_code.set': 'info',
  'user_code.removed': 'info',
  // the server's keys
  'keys.rotated': 'info',
  'keys.revoked': 'warn',
} as const

/** The whole vocabulary. */
export const auditEvents = Object.keys(levels) as AuditEventName[]

/** One event. What is not known is left out. */
export interface AuditEvent {
  event: AuditEventName
  /** ISO 8601. */
  at: string
  /** The internal id of the authentication request. */
  request?: string
  client?: string
  user?: string
  /** The IP address the call came from. */
  address?: string
  /** What it came to, as a code. */
  outcome?: string
  /** What it was done by or through: who decided, how somebody signed in, the kind of a notification. */
  by?: string
  /** Another id that goes with it: of a notification, of a passkey, of the client of a user's device. */
  about?: string
  /** Which attempt to deliver a notification it was, from 1. */
  attempt?: number
}

export type Audit = (event: Happening) => void

/** An event as whoever causes it tells it. */
export type Happening = Pick<AuditEvent, 'event'> & {
  [Field in (typeof fields)[number]]?: AuditEvent[Field] | undefined
}

/** Nothing else gets into an event, whatever a caller hands over. */
const fields = ['request', 'client', 'user', 'address', 'outcome', 'by', 'about', 'attempt'] as const

export interface AuditNeeds {
  clock: Clock
  log: Log
  /** Hear of each event. What they throw changes nothing. */
  listeners: ((event: AuditEvent) => unknown)[]
}

export function createAudit({ clock, log, listeners }: AuditNeeds): Audit {
  const complain = (error: unknown) =>
    log.error({ event: 'audit.hook_failed', error }, 'the audit hook threw an error; the event is still in the log')

  /** Most hearers only count: they are done when they return. */
  function tell(listen: (event: AuditEvent) => unknown, event: AuditEvent): void {
    try {
      const result = listen(event)
      if (typeof result === 'object' && result !== null) Promise.resolve(result).catch(complain)
    } catch (error) {
      complain(error)
    }
  }

  return (happening) => {
    const event: Record<string, unknown> = { event: happening.event, at: isoOf(clock.now()) }
    for (const field of fields) if (happening[field] !== undefined) event[field] = happening[field]
    log[levels[happening.event]]({ audit: true, ...event })
    const told = Object.freeze(event) as unknown as AuditEvent
    for (const listen of listeners) tell(listen, told)
  }
}
