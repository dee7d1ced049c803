/** The listeners of each topic in this process. */
import type { Change } from './database.ts'

type OnChange = (key: string) => void

export interface Listeners {
  /** Adds a listener. Returns a function that removes it. */
  add(topic: string, onChange: OnChange): () => void
  tell(change: Change): void
  /** Calls every listener with the key '', which means that changes may have been missed. */
  tellAll(): void
}

export function createListeners(): Listeners {
  const topics = new Map<string, Set<{ onChange: OnChange }>>()

  // Each listener is called in a microtask of its own. If a listener throws, which is a bug, the error is reported as
  // unhandled, but it does not affect a commit or a connection.
  const tellEach = (listeners: Iterable<{ onChange: OnChange }>, topic: string, key: string) => {
    for (const listener of listeners) {
      queueMicrotask(() => {
        if (topics.get(topic)?.has(listener)) listener.onChange(key)
      })
    }
  }

  return {
    add(topic, onChange) {
      // Each call of `add` makes its own object. So a function that was added twice is called twice for each change,
      // until one of the two objects is removed.
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
