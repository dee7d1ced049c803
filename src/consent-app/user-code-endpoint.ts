/** The page on which users set, change or remove their user code (CIBA Core §7.1.2). */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { type Answered, type DeviceApi, Refused, succeeded } from './device-api.ts'
import type { Cookies, Session } from './session.ts'
import type { Shell } from './shell.ts'

export interface UserCodeNeeds {
  api: DeviceApi
  cookies: Pick<Cookies, 'sessionName' | 'resealSession' | 'options'>
}

export function userCodeEndpoint(app: FastifyInstance, shell: Shell, { api, cookies }: UserCodeNeeds): void {
  const { readerOf, page, act, toSignIn } = shell

  app.get('/user-code', async (request, reply) => {
    const reader = readerOf(request)
    if (reader.session === undefined) return toSignIn(reply, '/user-code')
    const answer = await api.userCode(reader.session.accessToken)
    if (answer.status === 401) return toSignIn(reply, '/user-code')
    const { set: isSet, present_code_needed: proofNeeded } = succeeded(answer)
    const session = remember(reply, reader.session, isSet)
    const { done, problem } = request.query as { done?: string; problem?: string }
    return page(
      reply,
      'user-code',
      { ...reader, session },
      {
        isSet,
        proofNeeded,
        message: ['set', 'removed'].includes(done ?? '') ? reader.say(`user_code.${done}`) : undefined,
        problem: codeProblems.includes(problem ?? '') ? reader.say(`user_code.${problem}`) : undefined,
      },
    )
  })

  /** Stores in the session whether the user has a code. Returns the session. */
  function remember(reply: FastifyReply, session: Session, hasUserCode: boolean): Session {
    if ((session.hasUserCode ?? false) === hasUserCode) return session
    const changed = { ...session, hasUserCode }
    reply.setCookie(cookies.sessionName, cookies.resealSession(changed), cookies.options)
    return changed
  }

  act('/user-code', async ({ accessToken }, form, from, { request }) => {
    const [user_code, repeated] = [form.get('user_code') ?? '', form.get('repeated')]
    if (user_code !== repeated) return '/user-code?problem=differs'
    const fields = { user_code, present_code: form.get('present_code') ?? null }
    const answer = await api.setUserCode(accessToken, fields, from, request.headers['user-agent'])
    return answer.status === 200 ? '/user-code?done=set' : `/user-code?problem=${codeProblemOf(answer)}`
  })

  act('/user-code/remove', async ({ accessToken }, form, from) => {
    const answer = await api.removeUserCode(accessToken, { present_code: form.get('present_code') ?? null }, from)
    return answer.status === 200 ? '/user-code?done=removed' : `/user-code?problem=${codeProblemOf(answer)}`
  })
}

const codeProblems = ['differs', 'wrong', 'locked', 'too_often', 'proof_needed', 'is_password', 'not_a_code']

/**
 * Returns the reason why a user code was not changed, as a value for the query parameter `problem` of the page.
 * @throws {Refused} if the page has no text for the reason
 */
function codeProblemOf(answer: Answered<object>): string {
  const { body } = answer
  if (body.error === 'invalid_user_code') return 'wrong'
  if (body.locked) return 'locked'
  if (body.too_often) return 'too_often'
  if (body.is_password) return 'is_password'
  if (body.error === 'invalid_request') return 'not_a_code'
  if (body.proof_needed) return 'proof_needed'
  throw new Refused(answer)
}
