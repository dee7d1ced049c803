/** Parameters that no endpoint defines, and with which a caller might try to act as Ben, or as another client. */
import { ben } from '../support/stage.ts'

/** What a caller might try in order to act as another user or client, or to get what belongs to another. */
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
  // In `id_token`, a value of `sub` that is not the user of the hint is refused: requested-claims.story.test.ts.
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

/** The same at the addresses of users, where a hint or a client's id means nothing either. */
export const besideToken: Record<string, string> = {
  ...aboutBen,
  login_hint: ben.email,
  id_token_hint: 'x',
  token: 'x',
}
