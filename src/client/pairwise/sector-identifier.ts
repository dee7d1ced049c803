/**
 * Checks whether a client may belong to the sector of its `sector_identifier_uri` (OpenID Connect Registration §5, CIBA
 * Core §4).
 */

import type { Clock } from '../../platform/clock.ts'
import { createFetches, type Fetches } from '../../platform/http/fetches.ts'
import type { LoadShedding, Slot } from '../../platform/http/load-shedding.ts'
import type { GuardedCaller } from '../../platform/http/outgoing.ts'
import { Overloaded } from '../../platform/http/unavailable.ts'
import type { ClientMetadata } from '../metadata/client-metadata.ts'
import { standsFor } from '../metadata/sector.ts'

/** Fetches the lists of addresses at the `sector_identifier_uri` of clients. */
export type SectorLists = Fetches<unknown[]>

export interface SectorListNeeds {
  caller: GuardedCaller
  releaseSlotWhile: LoadShedding['releaseSlotWhile']
  clock: Clock
}

/** Returns the functions that fetch the lists at `sector_identifier_uri`, with the limits of `createFetches`. */
export function createSectorLists({ caller, releaseSlotWhile, clock }: SectorListNeeds): SectorLists {
  return createFetches({ load: (uri) => fetchList(uri, caller), releaseSlotWhile, clock })
}

/**
 * Resolves to what is wrong with the client's `sector_identifier_uri`, or to undefined if nothing is wrong. The list is
 * fetched when a client registers or replaces its registration, and not later.
 *
 * @param slot the load-shedding slot of the call, which is released while the call waits for the list
 * @throws {Overloaded} if too many lists are being fetched already
 */
export async function sectorProblem(
  client: ClientMetadata,
  lists: Pick<SectorLists, 'get'>,
  slot: Slot | undefined,
): Promise<string | undefined> {
  const { sector_identifier_uri: uri } = client
  if (uri === undefined) return undefined
  const listed = await listAt(uri, lists, slot)
  if (listed === undefined) return 'sector_identifier_uri must answer with a JSON list of addresses'
  const needed = [standsFor(client), ...client.redirect_uris].filter((address) => address !== undefined)
  // A client without `jwks_uri`, notification endpoint and redirect URI cannot show that it belongs to the sector.
  return needed.length > 0 && needed.every((address) => listed.includes(address))
    ? undefined
    : 'sector_identifier_uri must list the jwks_uri or notification endpoint, and every redirect_uri'
}

async function listAt(uri: string, lists: Pick<SectorLists, 'get'>, slot: Slot | undefined) {
  try {
    return await lists.get(uri, slot)
  } catch (error) {
    if (error instanceof Overloaded) throw error
    return undefined
  }
}

async function fetchList(uri: string, caller: GuardedCaller): Promise<unknown[]> {
  const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
  const list = answer.status === 200 ? (JSON.parse(answer.body) as unknown) : undefined
  if (!Array.isArray(list)) throw new Error(`sector_identifier_uri answered ${answer.status} without a list`)
  return list
}
