import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createListeners } from './listeners.ts'
import { createPublisher } from './postgres-subscription.ts'

/** Resolves when the listeners have been called. Each listener is called in a microtask of its own. */
const told = () => new Promise(setImmediate)

function scene() {
  const heard: string[] = []
  const listeners = createListeners()
  listeners.add('requests', (key) => void heard.push(key))
  const publisher = createPublisher(listeners)
  const publish = (key: string) => {
    const { payloads, tellHere } = publisher.publish([{ topic: 'requests', key }])
    return { origin: (JSON.parse(payloads[0]!) as [string])[0], tellHere }
  }
  return { heard, publisher, publish }
}

describe('a change of this node', () => {
  test('is told here at once, and its echo is recognised', async () => {
    const { heard, publisher, publish } = scene()
    const { origin, tellHere } = publish('one')
    tellHere()
    await told()
    assert.deepEqual([heard, publisher.isOwnEcho(origin)], [['one'], true])
  })

  test('is told by the echo, if that arrives before the answer to the commit, and not again', async () => {
    const { heard, publisher, publish } = scene()
    const { origin, tellHere } = publish('one')
    assert.equal(publisher.isOwnEcho(origin), false)
    tellHere()
    await told()
    assert.deepEqual(heard, [])
  })

  test('is told, whatever another program announces in the name of this node', async () => {
    const { heard, publisher, publish } = scene()
    const { origin } = publish('one')
    const [node] = origin.split('.')
    const madeUp = [`${node}.1`, `${node}.2`, `${node}.`, origin.slice(0, -1), `${origin}0`]
    for (const each of madeUp) assert.equal(publisher.isOwnEcho(each), false)
    for (let number = 0; number < 100_001; number++) publisher.isOwnEcho(`${node}.made-up-${number}`)
    publish('two').tellHere()
    await told()
    assert.deepEqual(heard, ['two'])
  })
})
