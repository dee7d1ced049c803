/** RP-initiated logout: our own pages, in the reader's language, without external resources. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { languages } from '../../src/platform/i18n/texts.ts'
import { ana, openStage } from '../support/stage.ts'
import { openVisitor, type Seen } from '../support/visitor.ts'

function assertOurs({ headers, text }: Seen): void {
  assert.match(
    String(headers.get('content-security-policy')),
    /^default-src 'none'; style-src 'self'; script-src 'self'/,
  )
  assert.equal(headers.get('x-frame-options'), 'DENY')
  assert.equal(headers.get('cache-control'), 'no-store')
  assert.doesNotMatch(text, /<style|style=|<script|@import|fonts/)
  for (const [, address] of text.matchAll(/(?:src|href|action)="([^"]+)"/g)) {
    assert.ok(address!.startsWith('/') || address!.startsWith('http://localhost:'), address)
  }
}

const xsrfOn = ({ text }: Seen) => /name="xsrf" value="([^"]+)"/.exec(text)?.[1] ?? ''

describe('signing out at the provider', () => {
  test('asks a signed-in user, who is signed out afterwards', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const page = await visitor.get('/oauth/logout')
    assert.equal(page.status, 200)
    assertOurs(page)
    assert.match(page.text, /<h1>Sign out\?<\/h1>[\s\S]*Ana/)
    const done = await visitor.follow(
      await visitor.post('/oauth/logout/confirm', { xsrf: xsrfOn(page), logout: 'yes' }),
    )
    assertOurs(done)
    assert.match(done.text, /<h1>You are signed out<\/h1>/)
    assert.match((await visitor.get('/oauth/logout')).location ?? '', /\/oauth\/logout\/success$/)
  })

  test('confirms that the user stays signed in after a refusal', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const page = await visitor.get('/oauth/logout')
    const stays = await visitor.follow(await visitor.post('/oauth/logout/confirm', { xsrf: xsrfOn(page) }))
    assertOurs(stays)
    assert.match(stays.text, /<h1>You are still signed in<\/h1>/)
    assert.equal((await visitor.get('/oauth/logout')).status, 200)
  })

  test('is available in every language', async (t) => {
    const stage = await openStage(t)
    const visitor = openVisitor(stage.url)
    await visitor.signIn(ana)
    const titles = new Set<string>()
    for (const language of languages) {
      const page = await visitor.get('/oauth/logout', { 'accept-language': language })
      assert.match(page.text, new RegExp(`<html lang="${language}">`))
      titles.add(/<h1>([^<]+)/.exec(page.text)![1]!)
    }
    assert.equal(titles.size, languages.length)
  })

  test('needs no page and no session if the user is not signed in: it redirects to the client', async (t) => {
    const back = 'https://client.example/out'
    const client = {
      client_id: 'shop',
      client_secret: 'x'.repeat(40),
      grant_types: ['authorization_code'],
      redirect_uris: ['https://client.example/callback'],
      post_logout_redirect_uris: [back],
    }
    // Only clients that the operator gives to oidc-provider itself have such addresses.
    const stage = await openStage(t, { config: { oidc: { clients: [client] } } })
    const visitor = openVisitor(stage.url)
    const query = new URLSearchParams({ client_id: 'shop', post_logout_redirect_uri: back, state: 'a&b' })
    const { status, location, headers, text } = await visitor.get(`/oauth/logout?${query}`)
    assert.deepEqual([status, location], [303, `${back}?state=a%26b`], text)
    assert.equal(headers.get('set-cookie'), null)
    query.set('post_logout_redirect_uri', 'https://elsewhere.example/')
    const refused = await visitor.get(`/oauth/logout?${query}`)
    assert.equal(refused.status, 400)
    assertOurs(refused)
  })
})
