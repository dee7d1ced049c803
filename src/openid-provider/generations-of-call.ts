/**
 * During one call, remembers the generation of each user and the registration id of each client, as they were when the
 * call first read them. The generation of a user is a number that grows when the user is signed out, locked or removed.
 * The registration id changes if a client is removed and registered again. A token is stored with the remembered
 * values. So the token is not valid if its user was signed out, locked or removed, or its client was removed, before
 * the token was stored.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { UserGenerationStore } from '../user/user-generation-store.ts'

interface Held {
  /** The generations, by user id. */
  generations: Map<string, number>
  /** The registration ids, by client id. */
  registrations: Map<string, string>
}

const held = new AsyncLocalStorage<Held>()

/** Runs `work`, which handles one call. Generations and registration ids are remembered until `work` has finished. */
export function holdingGenerations<T>(work: () => T): T {
  return held.run({ generations: new Map(), registrations: new Map() }, work)
}

/** Remembers the generation of a user if none is remembered for this user yet. */
export function holdGeneration(userId: string, generation: number): void {
  const generations = held.getStore()?.generations
  if (generations?.has(userId) === false) generations.set(userId, generation)
}

/** Remembers the registration id of a client if none is remembered for this client yet. */
export function holdRegistration(clientId: string, registration: string): void {
  const registrations = held.getStore()?.registrations
  if (registrations?.has(clientId) === false) registrations.set(clientId, registration)
}

/** Returns the remembered generation of a user, or undefined if this call has not read the user. */
export function heldGeneration(userId: string): number | undefined {
  return held.getStore()?.generations.get(userId)
}

/** Returns the remembered registration id of a client, or undefined if this call has not read the client. */
export function heldRegistration(clientId: string): string | undefined {
  return held.getStore()?.registrations.get(clientId)
}

export type BeginFor = ReturnType<typeof createBeginFor>

/**
 * Returns a function that begins a sign-in. The function remembers the generation of the user, and resolves to whether
 * the user may sign in. It must be called before any other data of the user is read.
 */
export function createBeginFor(generations: Pick<UserGenerationStore, 'find'>) {
  return async (userId: string): Promise<boolean> => {
    const { generation, isClosed } = await generations.find(userId)
    holdGeneration(userId, generation)
    return !isClosed
  }
}
