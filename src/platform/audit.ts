/**
 * The audit stream: one event for each action. docs/audit.md lists the events. An event identifies an authentication
 * request by its internal id, and never contains a secret, token, `auth_req_id`, hint or code.
 */
import { type Clock, isoOf } from './clock.ts'
import type { Log } from './log.ts'

export type AuditEventName = keyof typeof levels

/** The log level of each event. */
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
  // notifications to users' devices and clients
  'device.unreachable': 'error',
  'notification.delivered': 'info',
  'notification.failed': 'warn',
  'notification.parked': 'error',
  // tokens
  'tokens.issued': 'info',
  'tokens.repeated': 'info',
  'tokens.refused': 'warn',
  'tokens.revoked': 'warn',
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
  'passkey.renamed': 'info',
  'passkey.removed': 'info',
  'user_code.set': 'info',
  'user_code.removed': 'info',
  // the server's keys
  'keys.rotated': 'info',
  'keys.revoked': 'warn',
} as const

/** The names of all events. */
export const auditEvents = Object.keys(levels) as AuditEventName[]

/** One event. A field without a value is left out. */
export interface AuditEvent {
  event: AuditEventName
  /** ISO 8601. */
  at: string
  /** The internal id of the authentication request. */
  request?: string
  client?: string
  user?: string
  /** The IP address from which the call came. */
  address?: string
  /** The result, as a code. */
  outcome?: string
  /** Depends on the event: who decided, how a user signed in, or the kind of a notification. */
  by?: string
  /** The id of another object that the event concerns: a notification, a passkey, or the client of a user's device. */
  about?: string
  /** The number of the attempt to deliver a notification, counted from 1. */
  attempt?: number
}

/** Records an event. */
export type Audit = (event: AuditRecord) => void

/** An event as it is passed to `Audit`, without the time. */
export type AuditRecord = Pick<AuditEvent, 'event'> & {
  [Field in Exclude<keyof AuditEvent, 'event' | 'at'>]?: AuditEvent[Field] | undefined
}

/**
 * Copies the fields of `AuditRecord` and no other properties. Each field has its own line of code, because a loop would
 * take twice as long.
 */
function eventOf(
  { event, request, client, user, address, outcome, by, about, attempt }: AuditRecord,
  at: string,
): AuditEvent {
  const copy: AuditEvent = { event, at }
  if (request !== undefined) copy.request = request
  if (client !== undefined) copy.client = client
  if (user !== undefined) copy.user = user
  if (address !== undefined) copy.address = address
  if (outcome !== undefined) copy.outcome = outcome
  if (by !== undefined) copy.by = by
  if (about !== undefined) copy.about = about
  if (attempt !== undefined) copy.attempt = attempt
  return copy
}

export interface AuditNeeds {
  clock: Clock
  log: Log
  /** Functions that are called with each event. An error that a listener throws is logged and has no other effect. */
  listeners: ((event: AuditEvent) => unknown)[]
  /**
   * Returns whether an event is expected. An expected event is logged at level info, even if `levels` contains a higher
   * level for the event.
   */
  isUsual?: (event: AuditRecord) => boolean
}

/** Returns a function that adds the time to an event, logs the event, and passes it to the listeners. */
export function createAudit({ clock, log, listeners, isUsual = () => false }: AuditNeeds): Audit {
  const logError = (error: unknown) =>
    log.error({ event: 'audit.hook_failed', error }, 'the audit hook threw an error; the event is still in the log')

  /** Calls a listener. Most listeners only count and return no promise. */
  function notify(listen: (event: AuditEvent) => unknown, event: AuditEvent): void {
    try {
      const result = listen(event)
      if (typeof result === 'object' && result !== null) Promise.resolve(result).catch(logError)
    } catch (error) {
      logError(error)
    }
  }

  return (happening) => {
    const event = Object.freeze(eventOf(happening, isoOf(clock.now())))
    log[isUsual(happening) ? 'info' : levels[happening.event]]({ audit: true, ...event })
    for (const listen of listeners) notify(listen, event)
  }
}
