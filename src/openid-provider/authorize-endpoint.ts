/**
 * The authorization endpoint of oidc-provider, with limits added. oidc-provider stores the parameters of a request
 * before any user has signed in. So the length of the parameters is limited. The number of unfinished sign-ins is
 * limited too, for each network and in total.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { rawBody } from '../platform/http/answer.ts'
import { isForm } from '../platform/http/form.ts'
import { targetOf } from '../platform/http/one-spelling.ts'
import { chooseLanguage, type Texts } from '../platform/i18n/texts.ts'
import { pageHeaders, renderError } from '../platform/pages/pages.ts'
import type { ForwardToOidcProvider } from './oidc-call.ts'
import type { ReturningUsers } from './oidc-call-limits.ts'
import type { OidcModelStore } from './oidc-model-store.ts'
import { NoPlace, type SignInPlace, type SignInPlaces, withoutPlace } from './sign-in-places.ts'

export interface AuthorizeNeeds {
  forwardToOidcProvider: ForwardToOidcProvider
  places: SignInPlaces
  /** Removes unfinished sign-ins, by the hashes of their ids. */
  remove: OidcModelStore['removeSignIns']
  returningUsers: Pick<ReturningUsers, 'byCookies'>
  texts: Texts
}

/**
 * Maximum lengths, in bytes of JSON, because oidc-provider stores the parameters as JSON. In JSON, a control character
 * takes six bytes.
 */
const longest = {
  inAll: 8192,
  /** For values that oidc-provider only returns unchanged or compares. */
  ids: 1024,
  /** For JSON structures and JWTs. */
  structures: 4096,
  others: 2048,
} as const

const longestOf: Readonly<Record<string, number>> = {
  state: longest.ids,
  nonce: longest.ids,
  code_challenge: longest.ids,
  client_id: longest.ids,
  claims: longest.structures,
  authorization_details: longest.structures,
  id_token_hint: longest.structures,
  request: longest.structures,
}

const underWay = new AsyncLocalStorage<SignInPlace>()

/**
 * Returns the place of the sign-in that the current call begins or continues. Each unfinished sign-in takes one of a
 * limited number of places (`sign-in-places.ts`). Returns undefined if the call belongs to no sign-in.
 */
export function placeOfThisCall(): SignInPlace | undefined {
  return underWay.getStore()
}

/** Adds the authorization endpoint, and the path to which a user returns from the sign-in pages. */
export function authorizeEndpoint(app: FastifyInstance, path: string, needs: AuthorizeNeeds): void {
  const { places } = needs

  app.route({
    // oidc-provider treats HEAD like GET, so a HEAD request also stores a sign-in.
    method: ['GET', 'HEAD', 'POST'],
    url: path,
    exposeHeadRoute: false,
    handler(request, reply) {
      const tooLong = tooLongIn(request)
      if (tooLong !== undefined) return refuse(request, reply, { status: 400, error: `invalid_request: ${tooLong}` })
      if (request.method === 'POST') return redirectToGet(request, reply)
      const place = beginFor(request)
      if (!(place instanceof NoPlace)) return goOn(request, reply, place)
      const { retryAfter } = place
      return refuse(request, reply, { status: 429, error: 'temporarily_unavailable', retryAfter })
    },
  })
  app.route({
    method: ['GET', 'HEAD'],
    url: `${path}/:uid`,
    exposeHeadRoute: false,
    handler: (request, reply) => goOn(request, reply, places.goOn(request.ip)),
  })

  function beginFor(request: FastifyRequest): SignInPlace | NoPlace {
    try {
      return places.begin(request.ip)
    } catch (error) {
      if (!(error instanceof NoPlace)) throw error
      // The call of a user who is still signed in is accepted even if anonymous callers have taken all places. So
      // anonymous callers cannot keep signed-in users from renewing their tokens.
      const isReturning = needs.returningUsers.byCookies(request.headers.cookie) !== undefined
      return isReturning ? withoutPlace(error) : error
    }
  }

  /**
   * Redirects a POST to the same request by GET (OpenID Connect Core §3.1.2.1). If another site's form is posted, a
   * browser leaves out cookies with `SameSite=Lax`, but it sends them when it follows the redirect. So a user who is
   * signed in does not have to sign in again. Only the parameters of the form are kept, not those of the query.
   */
  function redirectToGet(request: FastifyRequest, reply: FastifyReply) {
    const body = rawBody(request)
    if (body.length > 0 && !isForm(request.headers['content-type'])) {
      return refuse(request, reply, { status: 400, error: 'invalid_request: the body must be a form' })
    }
    const query = new URLSearchParams(body.toString()).toString()
    return reply.headers(redirectHeaders).redirect(`${path}?${query}`, 303)
  }

  async function goOn(request: FastifyRequest, reply: FastifyReply, place: SignInPlace) {
    try {
      return await underWay.run(place, () => needs.forwardToOidcProvider(request, reply))
    } finally {
      const left = place.end()
      if (left.length > 0) await needs.remove(left)
    }
  }

  function refuse(request: FastifyRequest, reply: FastifyReply, { status, error, retryAfter }: Refused) {
    const lang = chooseLanguage(request.headers['accept-language'])
    const say = needs.texts.in(lang)
    if (retryAfter !== undefined) reply.header('retry-after', String(retryAfter))
    const when = retryAfter === undefined ? '' : new Intl.RelativeTimeFormat(lang).format(retryAfter, 'second')
    const description = retryAfter === undefined ? say('error.from_elsewhere') : say('sign_in.paused', { when })
    return reply
      .code(status)
      .headers(pageHeaders)
      .send(renderError({ base: app.basePath, lang, say, title: say('error.title'), description, error }))
  }
}

const redirectHeaders = { 'cache-control': 'no-store' }

interface Refused {
  status: number
  error: string
  /** Seconds. */
  retryAfter?: number
}

/**
 * Returns an error message if one parameter or the sum of all parameters is too long, and undefined if none is. The
 * message is in English, because it is for the developer of the client.
 */
function tooLongIn(request: FastifyRequest): string | undefined {
  let inAll = 0
  for (const sent of [targetOf(request.raw.url ?? '').search, rawBody(request).toString('latin1')]) {
    for (const [name, value] of new URLSearchParams(sent)) {
      const length = Buffer.byteLength(JSON.stringify(value))
      const most = Object.hasOwn(longestOf, name) ? longestOf[name]! : longest.others
      inAll += name.length + length
      if (length > most) {
        return Object.hasOwn(longestOf, name)
          ? `${name} is longer than ${most} bytes`
          : `a parameter is longer than ${most} bytes`
      }
    }
  }
  return inAll > longest.inAll ? `the parameters are longer than ${longest.inAll} bytes in all` : undefined
}
