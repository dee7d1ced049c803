/** The listeners of each topic in this process. */
import type { Change } from './database.ts'

type OnChange = (key: string) => void

export interface Listeners {
  /** Returns a function that removes the listener. */
  add(topic: string, onChange: OnChange): () => void
  tell(change: Change): void
  /** Calls every listener with the key '': announcements may have been missed. */
  tellAll(): void
}

export function createListeners(): Listeners {
  const topics = new Map<string, Set<{ onChange: OnChange }>>()

  // In a microtask of its own: a listener that throws is a bug and is reported as one, but breaks no commit and no connection.
  const tellEach = (listeners: Iterable<{ onChange: OnChange }>, topic: string, key: string) => {
    for (const listener of listeners) {
      queueMicrotask(() => {
        if (topics.get(topic)?.has(listener)) listener.onChange(key)
      })
    }
  }

  return {
    add(topic, onChange) {
      // Wrapped, so that a function that was added twice is called twice and removed one at a time.
      const listener = { onChange }
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
