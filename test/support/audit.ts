/** The audit stream of a stage, as it stands in the log. */
import type { AuditEvent } from '../../src/platform/audit.ts'
import type { Stage } from './stage.ts'

export type LoggedEvent = AuditEvent & { level: number }

/** All events so far, in order. @param only their names start so */
export function auditOf(stage: Stage, only = ''): LoggedEvent[] {
  return stage.logLines
    .map((line) => JSON.parse(line) as LoggedEvent & { audit?: true })
    .filter((line) => line.audit === true && line.event.startsWith(only))
}
