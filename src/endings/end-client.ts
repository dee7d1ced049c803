/**
 * Removes the tokens of a client, and settles its requests and notifications, when the client is removed. A client is
 * removed by a command, by its own request, or because the configuration no longer contains the client.
 */
import type { Statement } from '../platform/storage/database.ts'
import { statementsForClient } from './ending-store.ts'

/**
 * Returns the statements that remove a client's tokens, settle its open requests as expired and park its waiting
 * notifications. Execute them in the transaction that removes the client.
 */
export type EndClient = (clientId: string, now: number) => Statement[]

export const endClient: EndClient = statementsForClient
