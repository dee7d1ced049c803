/** `sector_identifier_uri`: whether a client may call itself part of a sector (OpenID Connect Registration §5, RG-9). */
import type { ClientMetadata } from '../client/client-metadata.ts'
import { standsFor } from '../client/sector.ts'
import type { GuardedCaller } from '../http/outgoing.ts'

/** Answers what is wrong, or nothing. The list is fetched once, when the client is registered. */
export async function complainAboutSector(client: ClientMetadata, caller: GuardedCaller): Promise<string | undefined> {
  const { sector_identifier_uri: uri } = client
  if (uri === undefined) return undefined
  const listed = await fetchList(uri, caller)
  if (listed === undefined) return 'sector_identifier_uri must answer with a JSON list of addresses'
  const needed = [standsFor(client), ...client.redirect_uris].filter((address) => address !== undefined)
  // Whoever uses none of them shows by nothing that it belongs there (RG-8).
  return needed.length > 0 && needed.every((address) => listed.includes(address))
    ? undefined
    : 'sector_identifier_uri must list the jwks_uri or notification endpoint, and every redirect_uri'
}

async function fetchList(uri: string, caller: GuardedCaller): Promise<unknown[] | undefined> {
  try {
    const answer = await caller.call({ url: uri, method: 'GET', headers: { accept: 'application/json' } })
    const list = answer.status === 200 ? (JSON.parse(answer.body) as unknown) : undefined
    return Array.isArray(list) ? list : undefined
  } catch {
    return undefined
  }
}
