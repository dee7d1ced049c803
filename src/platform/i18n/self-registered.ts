import type { Say } from './texts.ts'

/**
 * Returns the text that tells users that a client registered itself. The text contains the hosts of the client's URLs.
 */
export function saySelfRegistered(say: Say, client: string, hosts: readonly string[]): string {
  return hosts.length === 0
    ? say('approve.self_registered_nowhere', { client })
    : say('approve.self_registered', { client, hosts: hosts.join(', ') })
}
