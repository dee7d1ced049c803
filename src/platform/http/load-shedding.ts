/**
 * How much is in work at the same time. A call that could not be answered soon is better refused at once, before its
 * body is read: whoever is being served goes on being served quickly, and the caller knows to come again.
 */
import { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isTooLargeToDrain } from './answer.ts'
import { Overloaded } from './unavailable.ts'
import { type Claim, claimOf, ProvenCallers, UnprovenCallers } from './unproven-callers.ts'

export interface InWork {
  /** The routes that are added to `app` from now on take part. */
  guard(app: FastifyInstance): void
  /**
   * Carries out a client's work. Once half of the places are taken, each client has no more of that half than any
   * other: one that asks for everything does not get what the others need.
   *
   * @param slot the call's, so that its share is given back while it waits for a fetch
   * @throws {Overloaded}
   */
  fairly<T>(client: string, work: () => Promise<T>, slot?: Slot): Promise<T>
  /**
   * Finds out whether a caller is the client it claims to be; meanwhile it is counted as `unproven-callers.ts` says.
   *
   * @throws {Overloaded}
   */
  whileProving<T>(clientId: string, slot: Slot | undefined, prove: () => Promise<T>): Promise<T>
  /** Waits for a fetch, without a place and outside of every share. */
  whileFetching<T>(slot: Slot | undefined, fetched: Promise<T>): Promise<T>
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
  unproven: UnprovenCallers
}

/** The place of a call that is in work, and in whose share it is counted at the moment. */
export class Slot {
  readonly lane: Lane
  readonly #request: FastifyRequest
  #address: string | undefined
  client: string | undefined
  claim: Claim | undefined

  constructor(lane: Lane, request: FastifyRequest) {
    this.lane = lane
    this.#request = request
  }

  /** The caller's. */
  get address(): string {
    this.#address ??= this.#request.ip
    return this.#address
  }
}

const slotKey = Symbol('slot')

interface WithSlot {
  [slotKey]?: Slot
}

/** The slot of a call, or undefined if it has none: it comes from inside, or its route is not counted. */
export function slotOf(raw: object): Slot | undefined {
  return (raw as WithSlot)[slotKey]
}

export function createInWork({ most: limit, clients, free }: Lanes): InWork {
  const most = limit === 0 ? Number.POSITIVE_INFINITY : limit
  const ofClients: Lane = { inWork: 0, unproven: new UnprovenCallers(most) }
  const ofUsers: Lane = { inWork: 0, unproven: new UnprovenCallers(most) }
  const proven = new ProvenCallers()
  const { mayTakeMore, count, enterClaimed, enterShare, leaveShare, endShare } = createShares(ofClients, most, proven)

  function guard(app: FastifyInstance): void {
    app.addHook('onRoute', (route) => {
      if (free.includes(route.url)) return
      const lane = clients.includes(route.url) ? ofClients : ofUsers
      route.onRequest = [refuseWhenFull(lane, most), route.onRequest ?? []].flat()
      route.preHandler = [takePlace(lane, most), route.preHandler ?? []].flat()
    })
  }

  return {
    guard,
    async fairly(client, work, slot) {
      if (!mayTakeMore(client)) throw new Overloaded()
      count(client, 1)
      if (slot !== undefined) slot.client = client
      try {
        return await work()
      } finally {
        count(client, -1)
        if (slot !== undefined) slot.client = undefined
      }
    },
    async whileProving(clientId, slot, prove) {
      if (slot === undefined) return prove()
      const isKnown = enterClaimed(slot, clientId)
      try {
        const outcome = await prove()
        if (!isKnown) proven.add(clientId, slot.address)
        return outcome
      } finally {
        endShare(slot)
      }
    },
    async whileFetching(slot, fetched) {
      if (slot === undefined) return fetched
      slot.lane.inWork -= 1
      leaveShare(slot)
      try {
        return await fetched
      } finally {
        slot.lane.inWork += 1
        enterShare(slot)
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

const isFull = (lane: Lane, most: number) => lane.inWork >= most

function refuseWhenFull(lane: Lane, most: number) {
  return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
    if (!isFull(lane, most) || isOwnCall(request)) return done()
    if (isTooLargeToDrain(request)) reply.header('connection', 'close')
    done(new Overloaded())
  }
}

/** Only now, that the body is there: who sends it slowly takes nobody's place. */
function takePlace(lane: Lane, most: number) {
  const leave = () => {
    lane.inWork -= 1
  }
  return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
    if (isOwnCall(request) || reply.raw.destroyed) return done()
    if (isFull(lane, most)) return done(new Overloaded())
    lane.inWork += 1
    ;(request.raw as WithSlot)[slotKey] = new Slot(lane, request)
    // It closes once, and all of a lane leave alike.
    reply.raw.on('close', leave)
    done()
  }
}

/** How many places each client has, and each caller that has not proven yet who it is. */
function createShares(ofClients: Lane, most: number, proven: ProvenCallers) {
  const shares = new Map<string, number>()
  const half = most / 2

  function mayTakeMore(client: string): boolean {
    if (ofClients.inWork <= half) return true
    const others = shares.size - (shares.has(client) ? 1 : 0)
    return (shares.get(client) ?? 0) < Math.max(1, half / (others + 1))
  }

  function count(client: string, change: 1 | -1): void {
    const share = (shares.get(client) ?? 0) + change
    if (share === 0) shares.delete(client)
    else shares.set(client, share)
  }

  /** Returns whether the client is known from there. */
  function enterClaimed(slot: Slot, clientId: string): boolean {
    const isKnown = proven.has(clientId, slot.address)
    if (isKnown) {
      // Places of users are not shared between clients.
      if (slot.lane !== ofClients) return isKnown
      if (!mayTakeMore(clientId)) throw new Overloaded()
      slot.client = clientId
    } else {
      const claim = claimOf(clientId, slot.address)
      if (!slot.lane.unproven.hasRoom(claim)) throw new Overloaded()
      slot.claim = claim
    }
    enterShare(slot)
    return isKnown
  }

  function enterShare({ lane, client, claim }: Slot): void {
    if (client !== undefined) count(client, 1)
    if (claim !== undefined) lane.unproven.enter(claim)
  }

  function leaveShare({ lane, client, claim }: Slot): void {
    if (client !== undefined) count(client, -1)
    if (claim !== undefined) lane.unproven.leave(claim)
  }

  function endShare(slot: Slot): void {
    leaveShare(slot)
    slot.client = undefined
    slot.claim = undefined
  }

  return { mayTakeMore, count, enterClaimed, enterShare, leaveShare, endShare }
}

/** The consent app calls the device API without a network in between: it is in work already. */
function isOwnCall({ raw }: FastifyRequest): boolean {
  return !(raw instanceof IncomingMessage)
}
