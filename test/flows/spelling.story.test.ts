/** Each address has exactly one spelling. Tested over raw sockets, because HTTP clients normalize what they send. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { before, describe, type TestContext, test } from 'node:test'
import fastify from 'fastify'
import { cleanAfterSuite } from '../cli/terminal.ts'
import { basic, credentials, openStage, type Stage } from '../support/stage.ts'

interface Heard {
  status: number
  head: string
  body: string
}

/** Sends one call over a connection of its own, with the target unchanged. */
function say(port: number, method: string, target: string, headers: string[] = [], body = ''): Promise<Heard> {
  return new Promise((resolve, reject) => {
    let text = ''
    const lines = [
      `${method} ${target} HTTP/1.1`,
      'Host: localhost',
      'Connection: close',
      `Content-Length: ${body.length}`,
      ...headers,
    ]
    const socket = connect(port, '127.0.0.1', () => socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`))
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.on('error', reject).on('close', () => {
      const [head = '', ...rest] = text.split('\r\n\r\n')
      resolve({ status: Number(head.split(' ')[1]), head, body: rest.join('\r\n\r\n') })
    })
  })
}

/** Spellings of a path that some routers treat as the same. */
function otherSpellings(path: string): string[] {
  const last = path.lastIndexOf('/')
  const [folder, name] = [path.slice(0, last), path.slice(last + 1)]
  const encode = (text: string) => `%${text.charCodeAt(0).toString(16)}${text.slice(1)}`
  return [
    `${path}/`,
    `${path}//`,
    `${folder}//${name}`,
    `/${path}`,
    `${folder}/${encode(name)}`,
    `${folder}/${name.slice(0, -1)}%${name
      .charCodeAt(name.length - 1)
      .toString(16)
      .toUpperCase()}`,
    `${folder}%2f${name}`,
    `/${encode(path.slice(1))}`,
    path.toUpperCase(),
    `${folder}/${name[0]!.toUpperCase()}${name.slice(1)}`,
    `${path};x`,
    `${path};x=1/y`,
    `${folder};x/${name}`,
    `${path}.`,
    `${path}%20`,
    `${path}%00`,
    `${path}%3Fx=1`,
    `${path}#x`,
    `${folder}/./${name}`,
    `${folder}/x/../${name}`,
    `${folder}/%2e/${name}`,
    `${folder}/x/%2e%2e/${name}`,
    `${folder}\\${name}`,
    `/x/..${path}`,
    `http://localhost${folder}//${name}`,
    `http://localhost${path}/`,
    `http:${path}`,
    path.slice(1),
  ].filter((spelling) => spelling !== path)
}

const FORM = 'Content-Type: application/x-www-form-urlencoded'
const refresh = 'grant_type=refresh_token&refresh_token=x'

/** For each address, a call that is not answered with 404. */
const addresses: [method: string, path: string, headers: string[], body: string][] = [
  ['POST', '/oauth/token', [FORM, `Authorization: ${credentials.kiosk}`], refresh],
  ['OPTIONS', '/oauth/token', ['Origin: https://app.example', 'Access-Control-Request-Method: POST'], ''],
  ['GET', '/oauth/token', [], ''],
  ['POST', '/backchannel/authorize', [FORM], 'scope=openid'],
  ['GET', '/backchannel/authinfo', [], ''],
  ['POST', '/backchannel/complete', [FORM], 'x=y'],
  ['POST', '/backchannel/clientconfig', [FORM], 'x=y'],
  ['GET', '/oauth/authorize', [], ''],
  ['HEAD', '/oauth/authorize', [], ''],
  ['POST', '/oauth/authorize', [FORM], 'scope=openid'],
  ['GET', '/oauth/jwks', [], ''],
  ['HEAD', '/oauth/jwks', [], ''],
  ['OPTIONS', '/oauth/jwks', ['Origin: https://app.example', 'Access-Control-Request-Method: GET'], ''],
  ['GET', '/oauth/userinfo', [], ''],
  ['POST', '/oauth/introspect', [FORM, `Authorization: ${credentials.kiosk}`], 'token=x'],
  ['POST', '/oauth/revoke', [FORM, `Authorization: ${credentials.kiosk}`], 'token=x'],
  ['GET', '/oauth/logout', [], ''],
  ['POST', '/oauth/logout/confirm', [FORM], 'xsrf=x'],
  ['GET', '/oauth/logout/success', [], ''],
  ['GET', '/oauth/authorize/nothing', [], ''],
  ['POST', '/oauth/register', ['Content-Type: application/json'], '{}'],
  ['GET', '/.well-known/openid-configuration', [], ''],
  ['HEAD', '/.well-known/openid-configuration', [], ''],
  ['GET', '/.well-known/oauth-authorization-server', [], ''],
  ['GET', '/health/live', [], ''],
  ['GET', '/health/ready', [], ''],
  ['GET', '/metrics', [], ''],
  ['GET', '/activity', [], ''],
  ['GET', '/assets/doorbell.css', [], ''],
  ['GET', '/sign-in/nothing', [], ''],
  ['POST', '/sign-in/nothing/passkey/options', [], ''],
]

describe('each address has one spelling', () => {
  let stage: Stage
  let port: number
  const cleaner = cleanAfterSuite()
  before(async () => {
    stage = await openStage(cleaner as TestContext, { config: { registration: { mode: 'open' } } })
    port = Number(new URL(stage.url).port)
  })

  for (const [method, path, headers, body] of addresses) {
    test(`${method} ${path}`, async () => {
      const right = await say(port, method, path, headers, body)
      assert.notEqual(right.status, 404, right.body)
      const whole = await say(port, method, `http://elsewhere.example${path}`, headers, body)
      assert.equal(whole.status, right.status, 'an absolute URI, which servers must accept (RFC 9112 §3.2.2)')
      const asked = await say(port, method, `${path}?x=%2F`, headers, body)
      assert.equal(asked.status, right.status, 'the query does not belong to it')
      const parameter = /\/nothing(\/|$)/.test(path)
      for (const spelling of otherSpellings(path)) {
        const other = await say(port, method, spelling, headers, body)
        // The spelling differs only in a parameter, whose values the route checks: here the parameter is an unknown id.
        if (parameter && other.status === right.status && keepsItsSegments(spelling, path)) continue
        assert.ok([400, 404].includes(other.status), `${spelling} ${other.status}`)
        // Targets that HTTP does not allow are refused before there is a path.
        if (other.status === 400)
          assert.match(
            other.body,
            method === 'HEAD' ? /^$|Client Error/ : /the request is malformed|"message":"Client Error"/,
            spelling,
          )
        else assert.match(other.body, method === 'HEAD' ? /^$/ : /"error":"not_found"/, spelling)
      }
    })
  }

  test('calls reach oidc-provider only in the spelling of its route', async () => {
    const heard = await say(port, 'GET', 'HTTP://elsewhere.example/oauth/authorize/x?client_id=kiosk')
    assert.equal(heard.status, 400)
    assert.match(heard.body, /invalid_request/)
  })

  test('cross-origin calls are answered as before', async () => {
    const origin = ['Origin: https://app.example', 'Access-Control-Request-Method: POST']
    for (const path of ['/oauth/token', '/oauth/userinfo', '/oauth/revoke', '/oauth/introspect']) {
      const heard = await say(port, 'OPTIONS', path, origin)
      assert.equal(heard.status, 204, path)
      assert.match(heard.head, /access-control-allow-methods: [^\r\n]*POST/i, path)
    }
  })

  test('other spellings of the token endpoint never reach the token code', async () => {
    const before = stage.logLines.length
    for (const spelling of otherSpellings('/oauth/token')) {
      await say(port, 'POST', spelling, [FORM, `Authorization: ${basic('kiosk', 'wrong')}`], refresh)
    }
    const log = stage.logLines.slice(before).join('')
    assert.doesNotMatch(log, /oidc\.refused|client\.refused|invalid_client/)
  })
})

function keepsItsSegments(spelling: string, path: string): boolean {
  const folders = (text: string) => text.replace(/^http:\/\/localhost/, '').split('/').length
  return folders(spelling) === folders(path) && !spelling.endsWith('/')
}

describe('within another server', () => {
  test('a lenient outer server does not make this one lenient', async (t) => {
    const stage = await openStage(t)
    const generous = fastify({
      routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false },
    })
    await generous.register(stage.doorbell.fastify)
    await generous.listen({ port: 0, host: '127.0.0.1' })
    t.after(() => generous.close())

    const mounted = createServer(stage.doorbell.handler).listen(0, '127.0.0.1')
    // Frameworks do the same: a mounted handler gets the rest of the address.
    const prefixed = createServer((request, response) => {
      request.url = request.url?.replace(/^\/id/, '')
      stage.doorbell.handler(request, response)
    }).listen(0, '127.0.0.1')
    t.after(() => Promise.all([mounted, prefixed].map((each) => each.close())))

    const headers = [FORM, `Authorization: ${credentials.kiosk}`]
    for (const [server, prefix] of [
      [generous.server, ''],
      [mounted, ''],
      [prefixed, '/id'],
    ] as const) {
      const { port } = server.address() as AddressInfo
      const right = await say(port, 'POST', `${prefix}/oauth/token`, headers, refresh)
      assert.equal(right.status, 400, right.body)
      assert.match(right.body, /invalid_grant/)
      for (const spelling of otherSpellings('/oauth/token')) {
        const target = spelling.startsWith('/') ? prefix + spelling : spelling
        const other = await say(port, 'POST', target, headers, refresh)
        assert.ok([400, 404].includes(other.status), `${target} ${other.status}`)
        assert.doesNotMatch(other.body, /invalid_grant|unsupported_grant_type/, target)
      }
    }
  })
})
