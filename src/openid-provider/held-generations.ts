/**
 * During a call, the generation in which a user was first read and the registration of a client are remembered. Tokens are
 * stored with these, so that they are not valid if the user or the client has ended before they were stored.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { UserGenerationStore } from '../user/user-generation-store.ts'

interface Held {
  /** By user id. */
  generations: Map<string, number>
  /** By client id. */
  registrations: Map<string, string>
}

const held = new AsyncLocalStorage<Held>()

/** Runs the work of one call, and remembers generations and registrations until it ends. */
export function holdingGenerations<T>(work: () => T): T {
  return held.run({ generations: new Map(), registrations: new Map() }, work)
}

/** Remembers the generation of a user; later calls for the same user have no effect. */
export function holdGeneration(userId: string, generation: number): void {
  const generations = held.getStore()?.generations
  if (generations?.has(userId) === false) generations.set(userId, generation)
}

/** Remembers the registration of a client; later calls for the same client have no effect. */
export function holdRegistration(clientId: string, registration: string): void {
  const registrations = held.getStore()?.registrations
  if (registrations?.has(clientId) === false) registrations.set(clientId, registration)
}

/** Returns the generation that this call remembers, or undefined if it has not read the user. */
export function heldGeneration(userId: string): number | undefined {
  return held.getStore()?.generations.get(userId)
}

/** Returns the registration that this call remembers, or undefined if it has not read the client. */
export function heldRegistration(clientId: string): string | undefined {
  return held.getStore()?.registrations.get(clientId)
}

export type BeginFor = ReturnType<typeof createBeginFor>

/** For a sign-in: remembers the generation before anything of the user is read. Resolves to whether the user may sign in. */
export function createBeginFor(generations: Pick<UserGenerationStore, 'find'>) {
  return async (userId: string): Promise<boolean> => {
    const { generation, isClosed } = await generations.find(userId)
    holdGeneration(userId, generation)
    return !isClosed
  }
}
