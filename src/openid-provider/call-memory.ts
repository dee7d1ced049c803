/**
 * Remembers the tokens and codes that were looked up during one call that is forwarded to oidc-provider. This server
 * looks them up first, to count the call and to decide about its DPoP proof. Without this memory, oidc-provider would
 * read them from the database again.
 *
 * After the look-up, the call does not notice changes to the token. That is safe for two reasons. First, a code or
 * refresh token is marked as used by one conditional SQL statement. Second, a new token is not valid if its grant was
 * removed, or its user was signed out, before the new token was stored.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { FoundModel } from './oidc-model-store.ts'

type Found = Promise<FoundModel | undefined>

/**
 * The models that are remembered. Sessions and grants are not remembered, because a call may end a session and then
 * read it again.
 */
const rememberedModels = new Set(['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode'])

interface CallMemory {
  /** The look-ups of this call, by the model and the hash of the id. */
  found: Map<string, Found>
  /** Removals in progress, by the hash of the grant. */
  removals: Map<string, Promise<void>>
  isOver: boolean
}

const memories = new AsyncLocalStorage<CallMemory>()

/**
 * Runs `work`, which handles one call. Tokens and codes that the call finds are remembered until `work` has finished.
 */
export async function rememberingFound<T>(work: () => Promise<T>): Promise<T> {
  const memory: CallMemory = { found: new Map(), removals: new Map(), isOver: false }
  try {
    return await memories.run(memory, work)
  } finally {
    // `AsyncLocalStorage` still returns this memory to work that continues after the call. Such work must read the
    // database instead.
    memory.isOver = true
  }
}

/** Returns the memory of the current call, or undefined if there is none. */
function current(): CallMemory | undefined {
  const memory = memories.getStore()
  return memory?.isOver === false ? memory : undefined
}

/**
 * Resolves to what this call has found before. If it has found nothing yet, calls `find` and resolves to its result.
 */
export function foundInCall(model: string, idHash: string, find: () => Found): Found {
  const found = rememberedModels.has(model) ? current()?.found : undefined
  const key = `${model}/${idHash}`
  const result = found?.get(key) ?? find()
  found?.set(key, result)
  return result
}

/**
 * Forgets all tokens and codes that this call has found. Called when the call stores, changes or removes a token or
 * another model of oidc-provider.
 */
export function forgetFound(): void {
  current()?.found.clear()
}

/**
 * Runs `remove`, which removes everything that was issued under a grant. oidc-provider requests this removal once for
 * each model, at the same time. Only the first of these requests is executed.
 */
export function removeOnceInCall(grantHash: string, remove: () => Promise<void>): Promise<void> {
  const removals = current()?.removals
  if (removals === undefined) return remove()
  const begun = removals.get(grantHash) ?? remove().finally(() => removals.delete(grantHash))
  removals.set(grantHash, begun)
  return begun
}
