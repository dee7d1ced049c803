/**
 * How much is in work at the same time. A call that could not be answered soon is better refused at once, before its
 * body is read: whoever is being served goes on being served quickly, and the caller knows to come again.
 */
import { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isTooLargeToDrain, Overloaded } from './answer.ts'

export interface InWork {
  /** The routes that are added to `app` from now on take part. */
  guard(app: FastifyInstance): void
  /**
   * Carries out a client's work. Once half of the places are taken, each client has no more of that half than any
   * other: one that asks for everything does not get what the others need.
   *
   * @throws {Overloaded}
   */
  fairly<T>(client: string, work: () => Promise<T>): Promise<T>
  /** What waits for somebody, a user say, is not in work meanwhile. To be used inside `fairly`. */
  whileWaiting<T>(client: string, wait: () => Promise<T>): Promise<T>
}

/** What does not know the routes' story: which of them are clients' calls, and which are never refused. */
export interface Lanes {
  /** Places there are for the calls of clients, and as many again for everybody else's; 0 is no limit. */
  most: number
  /** The routes that clients call. All others are on a user's way, and not taken from them. */
  clients: readonly string[]
  /** Routes that are not counted: a health check, and what stays open on purpose and has a limit of its own. */
  free: readonly string[]
}

interface Lane {
  inWork: number
}

export function createInWork({ most, clients, free }: Lanes): InWork {
  const ofClients: Lane = { inWork: 0 }
  const ofUsers: Lane = { inWork: 0 }
  const shares = new Map<string, number>()
  const half = most / 2

  const isFull = (lane: Lane) => lane.inWork >= most

  function guard(app: FastifyInstance): void {
    if (most === 0) return
    app.addHook('onRoute', (route) => {
      if (free.includes(route.url)) return
      const lane = clients.includes(route.url) ? ofClients : ofUsers
      route.onRequest = [refuseWhenFull(lane), route.onRequest ?? []].flat()
      route.preHandler = [takePlace(lane), route.preHandler ?? []].flat()
    })
  }

  function refuseWhenFull(lane: Lane) {
    return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
      if (!isFull(lane) || isOwnCall(request)) return done()
      if (isTooLargeToDrain(request)) reply.header('connection', 'close')
      done(new Overloaded())
    }
  }

  /** Only now, that the body is there: who sends it slowly takes nobody's place. */
  function takePlace(lane: Lane) {
    const leave = () => {
      lane.inWork -= 1
    }
    return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
      if (isOwnCall(request) || reply.raw.destroyed) return done()
      if (isFull(lane)) return done(new Overloaded())
      lane.inWork += 1
      // It closes once, and all of a lane leave alike.
      reply.raw.on('close', leave)
      done()
    }
  }

  function mayTakeMore(client: string): boolean {
    if (most === 0 || ofClients.inWork <= half) return true
    const others = shares.size - (shares.has(client) ? 1 : 0)
    return (shares.get(client) ?? 0) < Math.max(1, half / (others + 1))
  }

  function count(client: string, change: 1 | -1): void {
    const share = (shares.get(client) ?? 0) + change
    if (share === 0) shares.delete(client)
    else shares.set(client, share)
  }

  return {
    guard,
    async fairly(client, work) {
      if (!mayTakeMore(client)) throw new Overloaded()
      count(client, 1)
      try {
        return await work()
      } finally {
        count(client, -1)
      }
    },
    async whileWaiting(client, wait) {
      ofClients.inWork -= 1
      count(client, -1)
      try {
        return await wait()
      } finally {
        ofClients.inWork += 1
        count(client, 1)
      }
    },
  }
}

/** The consent app calls the device API without a network in between: it is in work already. */
function isOwnCall({ raw }: FastifyRequest): boolean {
  return !(raw instanceof IncomingMessage)
}
