/** The page of the user's passkeys. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { browserName } from '../platform/http/browser-name.ts'
import type { Form } from '../platform/http/form.ts'
import { longestPasskeyName, passkeyNamePattern } from '../platform/passkey-name.ts'
import { type DeviceApi, type ShownPasskey, succeeded } from './device-api.ts'
import { safeReturn } from './session.ts'
import { formOf, type Reader, type Shell, staleForm } from './shell.ts'

export function passkeysEndpoint(app: FastifyInstance, shell: Shell, api: DeviceApi): void {
  const { readerOf, page, act, isTrustworthy, toSignIn } = shell

  app.get('/passkeys', async (request, reply) => {
    const reader = readerOf(request)
    const { done, request: requestId } = request.query as { done?: string; request?: string }
    const here = pageFor(requestId)
    if (reader.session === undefined) return toSignIn(reply, here)
    const answer = await api.passkeys(reader.session.accessToken)
    if (answer.status === 401) return toSignIn(reply, here)
    const { passkeys, sign_in_needed: needed } = succeeded(answer)
    const again =
      needed && `/session/start?to=${encodeURIComponent(here)}&again=${needed.acr_values ? 'passkey' : 'yes'}`
    const isForRequest = here !== '/passkeys'
    return page(reply, 'passkeys', reader, {
      passkeys: passkeys.map((passkey) => viewOf(passkey, reader)),
      proposedName: freeName(defaultName(request, reader), passkeys),
      nameRule: { pattern: passkeyNamePattern, longest: longestPasskeyName },
      message: textFor(reader, done, ['added', 'renamed', 'removed']),
      problem: textFor(reader, done, ['failed', 'too_often', 'bad_name']),
      again,
      requestId: isForRequest && requestId,
    })
  })

  app.post('/passkeys/options', async (request, reply) => {
    const reader = readerOf(request)
    const form = formOf(request)
    if (reader.session === undefined || !isTrustworthy(request, form, reader.session)) throw staleForm()
    const answer = await api.passkeyOptions(reader.session.accessToken, nameIn(form, request, reader))
    return reply.code(answer.status).send(answer.body)
  })

  act('/passkeys', async (session, form, from, { request }) => {
    const fields = { passkey: form.get('passkey') ?? '', name: nameIn(form, request, readerOf(request)) }
    const answer = await api.addPasskey(session.accessToken, fields, from, request.headers['user-agent'])
    const requestId = form.get('request')
    const here = pageFor(requestId)
    // Status 401 means that the sign-in is not recent. The page of passkeys tells the user this.
    if (answer.status === 401) return here
    if (answer.body.too_often) return withResult(here, 'too_often')
    if (answer.body.bad_name) return withResult(here, 'bad_name')
    // Status 400 means that the passkey was not accepted, or that the user has too many passkeys.
    if (answer.status === 400) return withResult(here, 'failed')
    succeeded(answer)
    return here === '/passkeys' ? withResult(here, 'added') : safeReturn(`/approve/${requestId}`)
  })

  act('/passkeys/rename', async (session, form, from) => {
    const fields = { id: form.get('id') ?? '', name: form.get('name') ?? '' }
    if (fields.name.trim() === '') return '/passkeys?done=bad_name'
    const answer = await api.renamePasskey(session.accessToken, fields, from)
    if (answer.status === 401) return '/passkeys'
    if (answer.body.bad_name) return '/passkeys?done=bad_name'
    // Status 404 means that the passkey was removed on another page.
    if (answer.status === 404) return '/passkeys'
    succeeded(answer)
    return '/passkeys?done=renamed'
  })

  act('/passkeys/remove', async (session, form, from) => {
    const answer = await api.removePasskey(session.accessToken, form.get('id') ?? '', from)
    if (answer.status === 401) return '/passkeys'
    // Status 404 means that the passkey was already removed on another page.
    if (answer.status !== 404) succeeded(answer)
    return '/passkeys?done=removed'
  })
}

/** Returns the name in a form. A user who empties the field gets the default name. */
function nameIn(form: Form, request: FastifyRequest, reader: Reader): string {
  return form.get('name')?.trim() || defaultName(request, reader)
}

/** Returns the name of the browser in which the passkey is added. The user recognises the device by it. */
function defaultName({ headers }: FastifyRequest, { say }: Reader): string {
  return browserName(headers['user-agent']) || say('passkeys.unnamed')
}

/** Returns the name, with a number if the user has a passkey of the same name. */
function freeName(name: string, passkeys: readonly ShownPasskey[]): string {
  const taken = new Set(passkeys.map((passkey) => passkey.name))
  for (let number = 2; ; number++) {
    if (!taken.has(name)) return name
    if (!taken.has(`${name} ${number}`)) return `${name} ${number}`
  }
}

function viewOf(passkey: ShownPasskey, { language, say }: Reader) {
  const format = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeZone: 'UTC' })
  const date = (seconds: number | undefined) => (seconds === undefined ? undefined : format.format(seconds * 1000))
  return {
    id: passkey.id,
    // A passkey that was added through the device API need not have a name.
    name: passkey.name ?? say('passkeys.unnamed'),
    made: date(passkey.created_at),
    used: date(passkey.used_at),
  }
}

/** Returns the text of a result, if it is one of `known`. */
function textFor({ say }: Reader, done: string | undefined, known: string[]): string | undefined {
  return known.includes(done ?? '') ? say(`passkeys.${done}`) : undefined
}

/**
 * Returns the path of the page of passkeys.
 * @param requestId the request that the user wants to approve with a new passkey; anything else is ignored
 */
function pageFor(requestId: string | undefined): string {
  const path = safeReturn(`/passkeys?request=${requestId}`)
  return requestId === undefined || path === '/' ? '/passkeys' : path
}

function withResult(path: string, result: string): string {
  return `${path}${path.includes('?') ? '&' : '?'}done=${result}`
}
