/** What ends with a client, whoever removes it: a command, the client itself, or a configuration that names it no more. */
import type { Statement } from '../platform/storage/database.ts'
import { statementsForClient } from './ending-store.ts'

/** The statements for the step that removes a client: its tokens, its open requests, and what it was still to be told. */
export type EndClient = (clientId: string, now: number) => Statement[]

export const endClient: EndClient = statementsForClient
