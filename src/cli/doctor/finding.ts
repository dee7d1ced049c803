/** What `doorbell doctor` has found out about one thing. */
export interface Finding {
  about: string
  state: 'ok' | 'warn' | 'fail' | 'skipped'
  says: string
  /** What to do. */
  advice?: string
}
