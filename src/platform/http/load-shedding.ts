/**
 * How much is in work at the same time. A call that could not be answered soon is better refused at once, before its
 * body is read: whoever is being served goes on being served quickly, and the caller knows to come again.
 */
import { IncomingMessage, type ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isTooLargeToDrain } from './answer.ts'
import { ClientShares, type Share } from './client-shares.ts'
import { whenOver } from './life.ts'
import { Overloaded } from './unavailable.ts'
import { type Claim, claimOf, ProvenCallers, UnprovenCallers } from './unproven-callers.ts'

export interface LoadShedding {
  /** The routes that are added to `app` from now on take part. */
  guard(app: FastifyInstance): void
  /**
   * Finds out whether a caller is the client it claims to be; meanwhile it is counted as `unproven-callers.ts` says.
   *
   * @param slot the call's
   * @throws {Overloaded}
   */
  whileProving<T>(clientId: string, slot: Slot | undefined, prove: () => Promise<T>): Promise<T>
  /**
   * Carries out a client's work. Once half of the places are taken, each client has no more of that half than any
   * other: one that asks for everything does not get what the others need.
   *
   * @throws {Overloaded}
   */
  withFairShare<T>(client: string, slot: Slot | undefined, work: () => Promise<T>): Promise<T>
  /** Waits for a fetch, or for a user, without a place and outside of every share. */
  releaseSlotWhile<T>(slot: Slot | undefined, awaited: Promise<T>): Promise<T>
}

/** What does not know the routes' story: which of them are clients' calls, and which are never refused. */
export interface RouteGroups {
  /** Places there are for the calls of clients, and as many again for everybody else's; 0 is no limit. */
  most: number
  /** The routes that clients call. All others are on a user's way, and not taken from them. */
  clients: readonly string[]
  /** Routes that are not counted: a health check, and what stays open on purpose and has a limit of its own. */
  exempt: readonly string[]
}

interface RouteGroup {
  most: number
  inWork: number
  unproven: UnprovenCallers
  /** What users call is not shared between clients. */
  shares: ClientShares | undefined
}

const isFull = ({ inWork, most }: RouteGroup) => inWork >= most

/** The place of a call, and in whose share it is counted at the moment. */
export class Slot {
  readonly #lane: RouteGroup
  readonly #request: FastifyRequest
  #address: string | undefined = undefined
  #share: Share | undefined = undefined
  #claim: Claim | undefined = undefined
  #isWorking = false
  #isWaiting = false
  #isOver = false

  constructor(group: RouteGroup, request: FastifyRequest) {
    this.#lane = group
    this.#request = request
    group.inWork += 1
  }

  /** The caller's. */
  get address(): string {
    this.#address ??= this.#request.ip
    return this.#address
  }

  /** Whether nobody waits for its answer any more. */
  get isShuttingDown(): boolean {
    return this.#isOver
  }

  /** Counts it as the client's, unless it is already. @throws {Overloaded} if the client has its share of the lane */
  countFor(client: string): void {
    const { shares, inWork, most } = this.#lane
    if (shares === undefined || this.#share !== undefined) return
    const half = most / 2
    if (inWork > half && shares.inWorkOf(client) >= Math.max(1, half / shares.clientsWith(client))) {
      throw new Overloaded()
    }
    this.#share = shares.enter(client)
  }

  /** Counts it as one of a caller that may be anybody. @throws {Overloaded} if there are too many like it */
  countUnproven(clientId: string): void {
    const claim = claimOf(clientId, this.address)
    if (!this.#lane.unproven.hasCapacity(claim)) throw new Overloaded()
    this.#claim = claim
    this.#lane.unproven.enter(claim)
  }

  /** What a client leaves behind counts as its share until it is done. */
  beginWork(client: string): void {
    this.countFor(client)
    this.#isWorking = true
  }

  /** From here on it is in nobody's share. */
  uncount(): void {
    if (!this.#isWaiting) this.#leaveShare()
    this.#share = undefined
    this.#claim = undefined
    this.#isWorking = false
  }

  beginWaiting(): void {
    this.#isWaiting = true
    if (!this.#isOver) this.#lane.inWork -= 1
    this.#leaveShare()
  }

  endWaiting(): void {
    this.#isWaiting = false
    if (!this.#isOver) this.#lane.inWork += 1
    if (this.#share !== undefined) this.#share = this.#lane.shares!.enter(this.#share.client)
    if (this.#claim !== undefined) this.#lane.unproven.enter(this.#claim)
  }

  /** Nobody waits for its answer any more. */
  end(): void {
    this.#isOver = true
    if (!this.#isWaiting) this.#lane.inWork -= 1
    if (this.#share !== undefined && !this.#isWorking) this.uncount()
  }

  #leaveShare(): void {
    if (this.#share !== undefined) this.#lane.shares!.leave(this.#share)
    if (this.#claim !== undefined) this.#lane.unproven.leave(this.#claim)
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

export function createLoadShedding({ most: limit, clients, exempt }: RouteGroups): LoadShedding {
  const most = limit === 0 ? Number.POSITIVE_INFINITY : limit
  const ofClients: RouteGroup = { most, inWork: 0, unproven: new UnprovenCallers(most), shares: new ClientShares() }
  const ofUsers: RouteGroup = { most, inWork: 0, unproven: new UnprovenCallers(most), shares: undefined }
  const proven = new ProvenCallers()

  async function proveFirst<T>(clientId: string, slot: Slot, prove: () => Promise<T>): Promise<T> {
    slot.countUnproven(clientId)
    try {
      const outcome = await prove()
      proven.add(clientId, slot.address)
      return outcome
    } finally {
      slot.uncount()
    }
  }

  return {
    guard(app) {
      app.addHook('onRoute', (route) => {
        if (exempt.includes(route.url)) return
        const group = clients.includes(route.url) ? ofClients : ofUsers
        route.onRequest = [refuseWhenFull(group), route.onRequest ?? []].flat()
        route.preHandler = [takePlace(group), route.preHandler ?? []].flat()
      })
    },
    whileProving(clientId, slot, prove) {
      if (slot === undefined) return prove()
      if (!proven.has(clientId, slot.address)) return proveFirst(clientId, slot, prove)
      // Of its share from now on, until its work is done.
      if (!slot.isShuttingDown) slot.countFor(clientId)
      return prove()
    },
    async withFairShare(client, slot, work) {
      slot?.beginWork(client)
      try {
        return await work()
      } finally {
        slot?.uncount()
      }
    },
    async releaseSlotWhile(slot, awaited) {
      slot?.beginWaiting()
      try {
        return await awaited
      } finally {
        slot?.endWaiting()
      }
    },
  }
}

function refuseWhenFull(group: RouteGroup) {
  return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
    if (!isFull(group) || isOwnCall(request)) return done()
    if (isTooLargeToDrain(request)) reply.header('connection', 'close')
    done(new Overloaded())
  }
}

/** Only now, that the body is there: who sends it slowly takes nobody's place. */
function takePlace(group: RouteGroup) {
  return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
    if (isOwnCall(request) || reply.raw.destroyed) return done()
    if (isFull(group)) return done(new Overloaded())
    ;(request.raw as WithSlot)[slotKey] = new Slot(group, request)
    whenOver(reply.raw, endSlot)
    done()
  }
}

function endSlot(response: ServerResponse): void {
  slotOf(response.req)!.end()
}

/** The consent app calls the device API without a network in between: it is in work already. */
function isOwnCall({ raw }: FastifyRequest): boolean {
  return !(raw instanceof IncomingMessage)
}
