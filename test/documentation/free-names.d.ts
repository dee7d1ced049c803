/** What the examples of the documentation take from the reader's own application. */
import type * as doorbell from '../../src/index.ts'

declare global {
  /** An example may show a few lines without their import. */
  const defineConfig: typeof doorbell.defineConfig
  const findByHint: doorbell.UserHooks['findByHint']
  const find: doorbell.UserHooks['find']
  const notify: NonNullable<doorbell.UserHooks['notify']>
  const myUsers: {
    byId(id: string): Promise<doorbell.User | null>
    byEmail(email: string): Promise<doorbell.User | null>
    checkPassword(id: string, password: string): Promise<boolean>
  }
  const myAuditTrail: { append(event: object): void }
  const sms: { send(to: string | undefined, text: string): Promise<void> }
}
