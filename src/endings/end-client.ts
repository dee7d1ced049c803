/** What ends with a client that is removed: by a command, by the client itself, or from the configuration. */
import type { Statement } from '../platform/storage/database.ts'
import { statementsForClient } from './ending-store.ts'

/** Returns the statements that end a client's tokens, open requests and waiting notifications, for the step that removes it. */
export type EndClient = (clientId: string, now: number) => Statement[]

export const endClient: EndClient = statementsForClient
