/**
 * Limits the number of calls in progress: each of them has a slot. If no slot is free, a call is refused at once, if
 * possible before its body is read. So the calls in progress stay fast. A refused caller gets a 503 with `Retry-After`.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isTooLargeToDrain } from './answer.ts'
import { ClientShares, type Share } from './client-shares.ts'
import { isFromNetwork, onResponseEnd } from './life.ts'
import { Overloaded } from './unavailable.ts'
import { type Claim, claimOf, ProvenCallers, ReturningUsers, UnprovenCallers } from './unproven-callers.ts'

export interface LoadShedding {
  /** Limits the calls of all routes that are added to `app` from now on. */
  guard(app: FastifyInstance): void
  /**
   * Runs the authentication of a client. Until the authentication succeeds, the call counts as a call of an unproven
   * caller (`unproven-callers.ts`).
   *
   * @param slot the call's slot
   * @throws {Overloaded} if the limit for such calls is reached
   */
  whileProving<T>(clientId: string, slot: Slot | undefined, prove: () => Promise<T>): Promise<T>
  /**
   * Runs work for a caller that is not authenticated: it sends no credentials, or an access token that has not been
   * looked up yet. During the work, the call counts as a call of an unproven caller (`unproven-callers.ts`).
   *
   * @param clientId the `client_id` that the caller sends; empty if it sends none
   * @param returning the id of the user if the call contains an encrypted cookie or a known token of a user who has
   *   signed in before. If the limit for unproven callers is reached, the call counts as a call of a returning user
   *   (`ReturningUsers`)
   * @throws {Overloaded} if the limit for such calls is reached
   */
  whileUnproven<T>(clientId: string, slot: Slot | undefined, work: () => Promise<T>, returning?: string): Promise<T>
  /**
   * Runs work for an authenticated client. If more than half of the slots are taken, a client may have at most half of
   * the slots, divided by the number of clients with calls in progress. So one client cannot take the slots that other
   * clients need.
   *
   * @throws {Overloaded} if the client has as many calls in progress as it may have
   */
  withFairShare<T>(client: string, slot: Slot | undefined, work: () => Promise<T>): Promise<T>
  /**
   * Waits for `awaited`, for instance a fetch. During the wait, the call holds no slot, and is not counted for its
   * client.
   */
  releaseSlotWhile<T>(slot: Slot | undefined, awaited: Promise<T>): Promise<T>
}

/** Which routes clients call, and which are exempt from the limit. */
export interface RouteGroups {
  /**
   * The number of slots for the calls of clients. There are as many separate slots for all other calls. 0 means no
   * limit.
   */
  most: number
  /** The routes that clients call. All other routes are called by users, and have separate slots. */
  clients: readonly string[]
  /**
   * Routes whose calls are not counted: health checks, and calls that stay open on purpose and have their own limit.
   */
  exempt: readonly string[]
}

interface RouteGroup {
  most: number
  inWork: number
  unproven: UnprovenCallers
  returning: ReturningUsers
  /** The number of calls of each client. Undefined in the group of users' calls. */
  shares: ClientShares | undefined
}

const isFull = ({ inWork, most }: RouteGroup) => inWork >= most

/**
 * The slot of a call. It also records for which client, unproven caller or returning user the call is counted at the
 * moment.
 */
export class Slot {
  readonly #group: RouteGroup
  readonly #request: FastifyRequest
  #address: string | undefined = undefined
  #share: Share | undefined = undefined
  #claim: Claim | undefined = undefined
  #returning: Share | undefined = undefined
  #isWorking = false
  #isWaiting = false
  #isOver = false

  constructor(group: RouteGroup, request: FastifyRequest) {
    this.#group = group
    this.#request = request
    group.inWork += 1
  }

  /** The caller's address. */
  get address(): string {
    this.#address ??= this.#request.ip
    return this.#address
  }

  /** Whether the response has ended or its connection was closed. */
  get isShuttingDown(): boolean {
    return this.#isOver
  }

  /**
   * Counts the call for the client, if it is not counted yet. @throws {Overloaded} if the client has too many calls in
   * progress
   */
  countFor(client: string): void {
    const { shares, inWork, most } = this.#group
    if (shares === undefined || this.#share !== undefined) return
    const half = most / 2
    if (inWork > half && shares.inWorkOf(client) >= Math.max(1, half / shares.clientsWith(client))) {
      throw new Overloaded()
    }
    this.#share = shares.enter(client)
  }

  /**
   * Counts the call for unproven callers. If they have no capacity left, counts it as a call of the returning user
   * `user`.
   *
   * @throws {Overloaded} if there are too many such calls
   */
  countUnproven(clientId: string, user: string | undefined): void {
    const { unproven, returning } = this.#group
    const claim = claimOf(clientId, this.address)
    if (unproven.hasCapacity(claim)) {
      this.#claim = claim
      unproven.enter(claim)
    } else if (user !== undefined && returning.hasCapacity(user)) {
      this.#returning = returning.enter(user)
    } else {
      throw new Overloaded()
    }
  }

  /** Counts the call for the client until the work is done, even if the client disconnects during the work. */
  beginWork(client: string): void {
    this.countFor(client)
    this.#isWorking = true
  }

  /** Stops counting the call for a client, an unproven caller or a returning user. The call keeps its slot. */
  uncount(): void {
    if (!this.#isWaiting) this.#leaveShare()
    this.#share = undefined
    this.#claim = undefined
    this.#returning = undefined
    this.#isWorking = false
  }

  beginWaiting(): void {
    this.#isWaiting = true
    if (!this.#isOver) this.#group.inWork -= 1
    this.#leaveShare()
  }

  endWaiting(): void {
    this.#isWaiting = false
    if (!this.#isOver) this.#group.inWork += 1
    if (this.#share !== undefined) this.#share = this.#group.shares!.enter(this.#share.client)
    if (this.#claim !== undefined) this.#group.unproven.enter(this.#claim)
    if (this.#returning !== undefined) this.#returning = this.#group.returning.enter(this.#returning.client)
  }

  /** Must be called when the response has ended or its connection was closed. */
  end(): void {
    this.#isOver = true
    if (!this.#isWaiting) this.#group.inWork -= 1
    if (this.#share !== undefined && !this.#isWorking) this.uncount()
  }

  #leaveShare(): void {
    if (this.#share !== undefined) this.#group.shares!.leave(this.#share)
    if (this.#claim !== undefined) this.#group.unproven.leave(this.#claim)
    if (this.#returning !== undefined) this.#group.returning.leave(this.#returning)
  }
}

const slotKey = Symbol('slot')

interface WithSlot {
  [slotKey]?: Slot
}

/**
 * Returns the slot of a call. Returns undefined if the call has no slot, because it is internal or its route is exempt.
 */
export function slotOf(raw: object): Slot | undefined {
  return (raw as WithSlot)[slotKey]
}

export function createLoadShedding({ most: limit, clients, exempt }: RouteGroups): LoadShedding {
  const most = limit === 0 ? Number.POSITIVE_INFINITY : limit
  const groupWith = (shares: ClientShares | undefined): RouteGroup => {
    return { most, inWork: 0, unproven: new UnprovenCallers(most), returning: new ReturningUsers(most), shares }
  }
  const [ofClients, ofUsers] = [groupWith(new ClientShares()), groupWith(undefined)]
  const proven = new ProvenCallers()

  async function whileUnproven<T>(
    clientId: string,
    slot: Slot | undefined,
    work: () => Promise<T>,
    returning?: string,
  ): Promise<T> {
    slot?.countUnproven(clientId, returning)
    try {
      return await work()
    } finally {
      slot?.uncount()
    }
  }

  async function proveFirst<T>(clientId: string, slot: Slot, prove: () => Promise<T>): Promise<T> {
    const outcome = await whileUnproven(clientId, slot, prove)
    proven.add(clientId, slot.address)
    return outcome
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
      // The client has authenticated at this address before. So from now on, the call is counted for the client, until
      // its work is done.
      if (!slot.isShuttingDown) slot.countFor(clientId)
      return prove()
    },
    whileUnproven,
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

/**
 * Returns the hook that takes a slot for a call. It runs after the body was received, so that a caller that sends
 * slowly holds no slot.
 */
function takePlace(group: RouteGroup) {
  return (request: FastifyRequest, reply: FastifyReply, done: (refused?: Error) => void) => {
    if (isOwnCall(request)) return done()
    // The caller has hung up while the body was received. Its call would have no slot, so it is not processed.
    if (reply.raw.destroyed) return void reply.hijack()
    if (isFull(group)) return done(new Overloaded())
    ;(request.raw as WithSlot)[slotKey] = new Slot(group, request)
    onResponseEnd(reply.raw, endSlot)
    done()
  }
}

function endSlot(response: ServerResponse): void {
  slotOf(response.req)!.end()
}

/**
 * Returns whether this is a call of the consent app to the device API within the process. Such a call is part of
 * another call, which is already counted.
 */
function isOwnCall({ raw }: FastifyRequest): boolean {
  return !isFromNetwork(raw)
}
