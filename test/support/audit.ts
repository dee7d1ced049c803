/** Reads the audit events of a server from its log. */
import type { AuditEvent } from '../../src/platform/audit.ts'
import type { Stage } from './stage.ts'

export type LoggedEvent = AuditEvent & { level: number }

/** Returns all events so far, in order. @param only returns only events whose names begin with this text */
export function auditOf(stage: Stage, only = ''): LoggedEvent[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as LoggedEvent & { audit?: true })
    .filter((line) => line.audit === true && line.event.startsWith(only))
}
