/** Who listens to which topic, in this process. */
import type { Change } from './database.ts'

type Heard = (key: string) => void

export interface Listeners {
  add(topic: string, heard: Heard): () => void
  tell(change: Change): void
  /** Tells everybody that something may have been missed. */
  tellAll(): void
}

export function createListeners(): Listeners {
  const topics = new Map<string, Set<{ heard: Heard }>>()

  // In a turn of their own: a listener that throws is our mistake and shows as one, but breaks no commit and no connection.
  const tellEach = (listeners: Iterable<{ heard: Heard }>, topic: string, key: string) => {
    for (const listener of listeners) {
      queueMicrotask(() => {
        if (topics.get(topic)?.has(listener)) listener.heard(key)
      })
    }
  }

  return {
    add(topic, heard) {
      // Wrapped, so that the same function added twice is called twice and removed one at a time.
      const listener = { heard }
      const listeners = topics.get(topic) ?? new Set()
      topics.set(topic, listeners.add(listener))
      return () => {
        listeners.delete(listener)
        if (listeners.size === 0 && topics.get(topic) === listeners) topics.delete(topic)
      }
    },
    tell: ({ topic, key }) => tellEach(topics.get(topic) ?? [], topic, key),
    tellAll() {
      for (const [topic, listeners] of topics) tellEach(listeners, topic, '')
    },
  }
}
