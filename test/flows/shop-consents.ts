/** A shop that asks users of this server for consent. It is a web application, so that it may send `prompt=none`. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { ana, openStage, type Stage, type StageOptions } from '../support/stage.ts'
import { rowsOf } from '../support/tables.ts'
import { openVisitor, type Visitor } from '../support/visitor.ts'

const callback = 'https://shop.example/callback'

export const openShop = (t: TestContext, options: StageOptions) =>
  openStage(t, {
    ...options,
    config: {
      clients: [
        {
          client_id: 'shop',
          token_endpoint_auth_method: 'none',
          grant_types: ['authorization_code'],
          redirect_uris: [callback],
          scope: 'openid email profile',
        },
      ],
    },
  })

export const pathOf = (scope: string, more: Record<string, string> = {}) =>
  `/oauth/authorize?${new URLSearchParams({
    client_id: 'shop',
    redirect_uri: callback,
    response_type: 'code',
    scope,
    code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    code_challenge_method: 'S256',
    ...more,
  })}`

/** Follows a redirect. Resolves to what the client gets: `code`, or the error. */
export async function heardAt(visitor: Visitor, location: string | undefined): Promise<string> {
  const seen = await visitor.follow(await visitor.get(location ?? ''))
  const heard = new URL(seen.location ?? '', callback).searchParams
  return heard.has('code') ? 'code' : (heard.get('error') ?? `${seen.status}`)
}

/** Exchanges a code of an authorization request of `pathOf`. The verifier is that of RFC 7636, Appendix B. */
export const exchange = (stage: Stage, code: string) =>
  stage.post('/oauth/token', {
    grant_type: 'authorization_code',
    client_id: 'shop',
    code,
    redirect_uri: callback,
    code_verifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  })

export const silently = (visitor: Visitor, scope: string) => heardAt(visitor, pathOf(scope, { prompt: 'none' }))

export async function grantsOf(stage: Stage): Promise<number> {
  return (await rowsOf(stage, "select id_hash from oidc_models where model = 'Grant' and client_id = 'shop'")).length
}

/** Opens a browser in which Ana has signed in. If `scope` is given, she has consented to it. */
export async function visitorWith(stage: Stage, scope?: string): Promise<Visitor> {
  const visitor = openVisitor(stage.url)
  await visitor.signIn(ana)
  if (scope !== undefined) {
    const page = await pageFor(visitor, scope)
    assert.equal(await heardAt(visitor, (await visitor.post(page, {})).location), 'code')
  }
  return visitor
}

/** Resolves to the path of the consent page. */
export async function pageFor(visitor: Visitor, scope: string, more: Record<string, string> = {}): Promise<string> {
  const { location = '' } = await visitor.get(pathOf(scope, more))
  assert.match(location, /^\/sign-in\//)
  return location
}

/**
 * Returns another tab of the same browser, with a copy of its cookies. The test browser ignores the paths of cookies,
 * so the tab has the cookies of each sign-in.
 */
export function tabOf(visitor: Visitor, url: string): Visitor {
  const tab = openVisitor(url)
  for (const [name, value] of visitor.jar) tab.jar.set(name, value)
  return tab
}
