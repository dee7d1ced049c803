import type { Say } from './texts.ts'

/** Returns the text about a client that registered itself, with the hosts of its addresses. */
export function saySelfRegistered(say: Say, client: string, hosts: readonly string[]): string {
  return hosts.length === 0
    ? say('approve.self_registered_nowhere', { client })
    : say('approve.self_registered', { client, hosts: hosts.join(', ') })
}
