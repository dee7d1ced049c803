/** Parameters that no endpoint defines, and with which a caller might try to act as Ben, or as another client. */
import { ben } from '../support/stage.ts'

/** Parameters that name Ben or another client. A caller might send them to act as Ben or as that client. */
export const aboutBen: Record<string, string> = {
  sub: ben.id,
  user: ben.id,
  user_id: ben.id,
  userId: ben.id,
  username: ben.username,
  account_id: ben.id,
  accountId: ben.id,
  subject: ben.id,
  requested_subject: ben.id,
  login: ben.email,
  email: ben.email,
  act: JSON.stringify({ sub: ben.id }),
  // If `id_token` requests a `sub` that is not the user of the hint, the request is refused
  // (`requested-claims.story.test.ts`). So only `userinfo` requests it here.
  claims: JSON.stringify({ userinfo: { sub: { value: ben.id } } }),
  aud: 'northbank',
  azp: 'northbank',
  iss: 'https://elsewhere.example',
  client: 'northbank',
  on_behalf_of: ben.id,
  impersonate: ben.id,
  ['__proto__']: ben.id,
  constructor: ben.id,
}

/**
 * The same parameters and further ones, for endpoints at which a user's access token authenticates the call. There, a
 * hint or a client id has no effect either.
 */
export const besideToken: Record<string, string> = {
  ...aboutBen,
  login_hint: ben.email,
  id_token_hint: 'x',
  token: 'x',
}
