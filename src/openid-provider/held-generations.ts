/**
 * A call holds on to the generation in which it first met a user, and to the registration of a client: what it issues
 * belongs to these, even if the user or the client ends before it is written down. Then it is worth nothing.
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

/** Runs the work of one call. */
export function holdingGenerations<T>(work: () => T): T {
  return held.run({ generations: new Map(), registrations: new Map() }, work)
}

/** The first one met counts. */
export function holdGeneration(userId: string, generation: number): void {
  const generations = held.getStore()?.generations
  if (generations?.has(userId) === false) generations.set(userId, generation)
}

export function holdRegistration(clientId: string, registration: string): void {
  const registrations = held.getStore()?.registrations
  if (registrations?.has(clientId) === false) registrations.set(clientId, registration)
}

export function heldGeneration(userId: string): number | undefined {
  return held.getStore()?.generations.get(userId)
}

export function heldRegistration(clientId: string): string | undefined {
  return held.getStore()?.registrations.get(clientId)
}

export type BeginFor = ReturnType<typeof createBeginFor>

/** For a sign-in, whose user nothing has been found of yet. Resolves to whether the user may sign in. */
export function createBeginFor(generations: Pick<UserGenerationStore, 'find'>) {
  return async (userId: string): Promise<boolean> => {
    const { generation, isClosed } = await generations.find(userId)
    holdGeneration(userId, generation)
    return !isClosed
  }
}
