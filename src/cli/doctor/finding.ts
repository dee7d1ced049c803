/** The result of one check of `doorbell doctor`. */
export interface Finding {
  about: string
  state: 'ok' | 'warn' | 'fail' | 'skipped'
  says: string
  /** What the operator should do. */
  advice?: string
}
