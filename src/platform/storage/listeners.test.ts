import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createListeners } from './listeners.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

test('a change reaches the listeners of its topic', async () => {
  const listeners = createListeners()
  const heard: string[] = []
  listeners.add('request', (key) => heard.push(`one ${key}`))
  listeners.add('request', (key) => heard.push(`two ${key}`))
  listeners.add('client', (key) => heard.push(`client ${key}`))
  listeners.tell({ topic: 'request', key: 'a' })
  await turn()
  assert.deepEqual(heard, ['one a', 'two a'])
})

test('a removed listener is not called again, not even for a change that was already announced', async () => {
  const listeners = createListeners()
  const heard: string[] = []
  const hear = (key: string) => heard.push(key)
  const stopFirst = listeners.add('request', hear)
  listeners.add('request', hear)
  listeners.tell({ topic: 'request', key: 'a' })
  stopFirst()
  stopFirst()
  await turn()
  assert.deepEqual(heard, ['a'])
})

test('all listeners are called when announcements may have been missed', async () => {
  const listeners = createListeners()
  const heard: string[] = []
  listeners.add('request', (key) => heard.push(`request:${key}`))
  listeners.add('client', (key) => heard.push(`client:${key}`))
  listeners.tellAll()
  await turn()
  assert.deepEqual(heard, ['request:', 'client:'])
})
