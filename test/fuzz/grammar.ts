/** Generates requests by changing valid ones. The random numbers alone determine what is sent. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KnownRoute } from '../../src/platform/http/mount.ts'
import { holeFor, type Jwt } from './holes.ts'
import type { Random } from './random.ts'
import type { Framing, Said, Seed, Shot } from './shot.ts'

const corpus = join(import.meta.dirname, 'corpus')
const read = (name: string): unknown => JSON.parse(readFileSync(join(corpus, name), 'utf8'))

/** Texts that often cause faults. */
export const nasty = (read('texts.json') as string[]).concat(madeTexts())

export function readSeeds(): Seed[] {
  const files = globSync('*.seeds.json', { cwd: corpus }).sort()
  return files.flatMap((name) => read(name) as Seed[])
}

/** Returns a request for each method of each route, so that every route is covered. */
export function seedsOf(routes: readonly KnownRoute[]): Seed[] {
  const form = { request_id: '{{request_id:1}}', form_token: '{{form_token:0}}', status: 'denied' }
  const headers = { cookie: '{{session}}', authorization: 'Bearer {{user_token}}' }
  return routes.flatMap(({ method, url }) => {
    const path = url.replaceAll(/:\w+/g, '{{request_id:0}}').replace('*', 'x')
    return method.map((each) => ({ method: each, path, headers, ...(hasBody(each) && { form }) }))
  })
}

const hasBody = (method: string) => ['POST', 'PUT', 'PATCH'].includes(method)

/** Returns a request from a seed, unchanged or changed in one or several ways. */
export function shoot(seeds: readonly Seed[], random: Random): Shot {
  let seed = structuredClone(random.pick(seeds))
  const changes = random.chance(0.15) ? 0 : 1 + random.below(3)
  for (let change = 0; change < changes; change++) seed = random.pick(seedChanges)(seed, random)
  let shot = written(seed, random)
  if (random.chance(0.25)) shot = random.pick(shotChanges)(shot, random)
  return shot
}

// ── changes of the content ──

type SeedChange = (seed: Seed, random: Random) => Seed

const names = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '__proto__[x]',
  'a[b][c]',
  'a.b',
  '',
  ' ',
  'resource',
  'client_id',
  'client_secret',
  'client_assertion',
  'grant_type',
  'scope',
  'login_hint',
  'id_token_hint',
  'login_hint_token',
  'request',
  'request_uri',
  'authorization_details',
  'requested_expiry',
  'user_code',
  'binding_message',
  'acr_values',
  'auth_req_id',
  'request_id',
  'code',
  'code_verifier',
  'redirect_uri',
  'claims',
  'ui_locales',
  'prompt',
  'max_age',
  'dpop_jkt',
  'response_mode',
  'registration',
  'number',
  'passkey',
  'subscription',
  'to',
  'just',
  'as',
  'poolingMode',
  'token',
  'token_type_hint',
  'id',
  'everywhere',
  'browser',
  'done',
  'endpoint',
  'present_code',
  'repeated',
  'xsrf',
  'logout',
  'logout_hint',
  'post_logout_redirect_uri',
]
const headerNames = [
  'authorization',
  'cookie',
  'dpop',
  'x-client-cert',
  'client-cert',
  'client-cert-chain',
  'x-forwarded-client-cert',
  'content-type',
  'accept',
  'accept-language',
  'origin',
  'referer',
  'host',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'forwarded',
  'expect',
  'upgrade',
  'connection',
  'range',
  'te',
  'trailer',
  'if-none-match',
  'if-modified-since',
  'content-encoding',
  'x-http-method-override',
  'sec-fetch-site',
  'user-agent',
  'x-request-id',
  'content-language',
]
const headerValues = [
  'Basic',
  'Basic ',
  'Basic =',
  'Basic Og==',
  'Basic %%%',
  'Basic {{new}}',
  'bearer',
  'Bearer ',
  'Bearer a b',
  'DPoP {{access_token:1}}',
  'DPoP x',
  'Bearer {{access_token:2}}',
  'Bearer {{auth_req_id:0}}',
  'Bearer {{refresh_token:0}}',
  '{{basic:till}}',
  '{{basic:nobody}}',
  'Digest x="y"',
  '100-continue',
  'something-else',
  'websocket',
  'upgrade',
  'close',
  'keep-alive, close',
  'gzip',
  'text/html',
  'application/json',
  '*/*;q=x',
  'de;q=9,en;q=nan,*',
  '127.0.0.1',
  'localhost:1',
  '[::1',
  'a b',
  'evil.example',
  '1.2.3.4, 5.6.7.8',
  'unknown',
  'https',
  'bytes=0-',
  'null',
  'cross-site',
  '{{certificate}}',
  '"By=spiffe://a;Hash=0;Cert=%22{{certificate}}%22;Chain="',
  ':MIIB:',
  '-----BEGIN CERTIFICATE-----',
  'a=b; a=c; =; ;;;',
  'doorbell_app={{new}}',
  'doorbell_app=v1.AAAA',
  '_session=x; _interaction={{uid:0}}',
  '{{cookie:0}}',
  '{{cookie:1}}; {{session}}',
]

const seedChanges: SeedChange[] = [
  // Another client's value, or an invalid one.
  (seed, random) => onFields(seed, random, (fields, name) => ({ ...fields, [name]: random.pick(nasty) })),
  (seed, random) => onFields(seed, random, (fields, name) => ({ ...fields, [name]: random.pick(nasty) })),
  (seed, random) => onFields(seed, random, (fields, name) => ({ ...fields, [name]: newJwtOr(random) })),
  (seed, random) => onFields(seed, random, (fields) => ({ ...fields, [random.pick(names)]: random.pick(nasty) })),
  (seed, random) => onFields(seed, random, (fields) => ({ ...fields, [random.pick(names)]: newJwtOr(random) })),
  (seed, random) => onFields(seed, random, (fields, name) => without(fields, name)),
  (seed, random) =>
    onFields(seed, random, (fields, name) => ({
      ...fields,
      [name]: changedText(Object.hasOwn(fields, name) ? fields[name]! : '', random),
    })),
  // JWTs, in any place.
  changeJwt,
  changeJwt,
  changeJwt,
  changeJson,
  changeJson,
  // JSON in a text, such as `claims` and subject identifiers.
  changeInnerJson,
  changeInnerJson,
  (seed, random) => ({ ...seed, headers: { ...seed.headers, [random.pick(headerNames)]: random.pick(headerValues) } }),
  (seed, random) => ({ ...seed, headers: { ...seed.headers, [random.pick(headerNames)]: random.pick(headerValues) } }),
  (seed, random) => ({
    ...seed,
    headers: { ...seed.headers, [random.pick(headerNames)]: headerText(random.pick(nasty)) },
  }),
  (seed, random) => ({
    ...seed,
    headers: without(seed.headers ?? {}, random.pick(Object.keys(seed.headers ?? { x: '' }))),
  }),
  (seed, random) => {
    const list = Array.from({ length: 1 + random.below(4) }, () => random.pick(hops))
    return { ...seed, headers: { ...seed.headers, 'x-forwarded-for': list.join(random.pick([',', ', ', ' , '])) } }
  },
  (seed, random) => ({
    ...seed,
    headers: { ...seed.headers, dpop: { $jwt: mutatedJwt(proofFor(seed), random) }, ...usesBoundToken(random) },
  }),
  (seed) => ({ ...seed, headers: { ...seed.headers, dpop: { $jwt: proofFor(seed) } } }),
  changeName,
  (seed, random) => ({ ...seed, path: spelledOtherwise(seed.path, random) }),
  (seed, random) => ({ ...seed, method: random.pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD']) }),
  (seed, random) => ({ ...seed, path: changedPath(seed.path, random) }),
  // Form fields as JSON or in the address, and the reverse.
  ({ form, ...seed }) => (form === undefined ? seed : { ...seed, json: form }),
  ({ form, ...seed }) => (form === undefined ? seed : { ...seed, query: form }),
  ({ json, ...seed }) => (isObject(json) ? { ...seed, form: onlyTexts(json) } : seed),
]

/** Values of `X-Forwarded-For`, alone or in a list. The test acts as the proxy: the last entry is the caller. */
const hops = [
  '1.2.3.4',
  '1.2.3.4:5678',
  '1.2.3.4:0',
  '1.2.3.4:99999',
  '01.2.3.4',
  '1.2.3',
  '2001:db8::1',
  '[2001:db8::1]',
  '[2001:db8::1]:443',
  '[2001:db8::1]:',
  '[2001:db8::1',
  'fe80::1%eth0',
  '::ffff:1.2.3.4',
  '::ffff:102:304',
  '127.0.0.1',
  '::1',
  'unknown',
  '_hidden',
  '"1.2.3.4"',
  'for=1.2.3.4',
  'localhost',
  '',
  ' ',
  '\t1.2.3.4',
  '1'.repeat(3000),
]

/** Names that look like another one, or are empty, or contain a link. */
const shownNames = [
  'Kiosk',
  'kiosk ',
  'Kio\u200bsk',
  '\u041aiosk',
  '\u200b\u200d',
  '\u202eknaB',
  '\u2066Bank\u2069',
  '\u3164',
  '\ufe0f',
  'pay.example/now',
  'https://evil.example',
  'evil．example',
  'mailto:a@b.example',
  'Bank\nof Ana',
  'x'.repeat(300),
  `e${'\u0301'.repeat(200)}`,
]

function changeName(seed: Seed, random: Random): Seed {
  const name = random.pick(shownNames)
  if (isObject(seed.json)) {
    return { ...seed, json: { ...seed.json, [random.pick(['client_name', 'client_name#de'])]: name } }
  }
  return seed.form === undefined ? seed : { ...seed, form: { ...seed.form, binding_message: name } }
}

/** Returns another spelling of the same path, as routers may accept it. */
function spelledOtherwise(path: string, random: Random): string {
  const at = 1 + random.below(Math.max(1, path.length - 1))
  const letter = path[at] ?? 'a'
  return random.pick([
    `${path.slice(0, at)}%${letter.charCodeAt(0).toString(16)}${path.slice(at + 1)}`,
    `${path.slice(0, at)}${letter.toUpperCase()}${path.slice(at + 1)}`,
    `${path}/`,
    `${path}//`,
    `/${path}`,
    `/.${path}`,
    `${path};x`,
    `${path}%20`,
    path.replace(/\/(?=[^/]*$)/, '%2f'),
    path.replace(/\/(?=[^/]*$)/, '/x/../'),
  ])
}

type Fields = Record<string, Said>

/** Changes a field of the body if there is one, else of the query; sometimes the reverse. */
function onFields(seed: Seed, random: Random, change: (fields: Fields, name: string) => Fields): Seed {
  const place = seed.form !== undefined && !random.chance(0.1) ? 'form' : 'query'
  const fields = seed[place] ?? {}
  return { ...seed, [place]: change(fields, random.pick([...Object.keys(fields), random.pick(names)])) }
}

function without<Value>(fields: Record<string, Value>, name: string): Record<string, Value> {
  return Object.fromEntries(Object.entries(fields).filter(([each]) => each !== name))
}

function changedText(said: Said, random: Random): string {
  const text = typeof said === 'string' ? said : holeFor(said.$jwt)
  const at = random.below(text.length + 1)
  return random.pick([
    text + text,
    text.slice(0, at),
    text.slice(at),
    `${text.slice(0, at)}${random.pick(nasty)}${text.slice(at)}`,
    ` ${text} `,
    text.toUpperCase(),
    `${text}\0`,
    text.repeat(200).slice(0, 30_000),
    `-${text}`,
  ])
}

function changedPath(path: string, random: Random): string {
  const at = random.below(path.length + 1)
  const piece = random.pick([
    '/',
    '//',
    '/..',
    '/%2e%2e/',
    '%00',
    '%ff',
    '%',
    ';a=b',
    '\\',
    '/./',
    '%2f',
    'é',
    '?',
    '#',
    ' ',
    ':',
    '*',
    'A',
    '%zz',
    '{{request_id:1}}',
    '{{new}}',
  ])
  return random.pick([
    `${path.slice(0, at)}${piece}${path.slice(at)}`,
    `${path}${piece}`,
    `/${piece}${path}`,
    path.toUpperCase(),
    `${path}/`,
    `http://localhost${path}`,
    `http://evil.example${path}`,
    path.slice(1),
    `${path}${'/a'.repeat(500)}`,
    '*',
    '/',
  ])
}

// ── JWTs ──

const wholeJwt = (random: Random): Jwt => ({
  key: random.pick(['signer', 'unregistered', 'proof', 'none', 'secret']),
  header: { alg: random.pick(['ES256', 'none', 'HS256', 'RS256']), kid: 'signer' },
  claims: {
    iss: 'signer',
    sub: 'signer',
    aud: '{{issuer}}',
    exp: '$now+60',
    nbf: '$now-1',
    iat: '$now',
    jti: '$new',
    scope: 'openid',
    login_hint: 'ana',
  },
})

/** Returns a DPoP proof for this request, with a random choice of key. */
const proofFor = ({ method, path }: Seed): Jwt => ({
  key: 'proof',
  header: { typ: 'dpop+jwt', alg: 'ES256', jwk: '$proofJwk' },
  claims: {
    jti: '$new',
    htm: method,
    htu: `{{issuer}}${path}`,
    iat: '$now',
    nonce: '{{nonce:0}}',
    ath: '$hash:{{access_token:1}}',
  },
})

const usesBoundToken = (random: Random) => (random.chance(0.5) ? { authorization: 'DPoP {{access_token:1}}' } : {})

function newJwtOr(random: Random): Said {
  return random.chance(0.7) ? { $jwt: mutatedJwt(wholeJwt(random), random) } : random.pick(nasty)
}

function changeJwt(seed: Seed, random: Random): Seed {
  const places = (['form', 'query', 'headers'] as const).flatMap((part) =>
    Object.entries(seed[part] ?? {}).flatMap(([name, said]) =>
      typeof said === 'object' ? [{ part, name, said }] : [],
    ),
  )
  if (places.length === 0) return seed
  const { part, name, said } = random.pick(places)
  return { ...seed, [part]: { ...seed[part], [name]: { $jwt: mutatedJwt(said.$jwt, random) } } }
}

const headerMembers = [
  'alg',
  'typ',
  'kid',
  'jwk',
  'jku',
  'x5c',
  'x5u',
  'x5t',
  'crit',
  'b64',
  'zip',
  'enc',
  'cty',
  '__proto__',
]
const claimNames = [
  'iss',
  'sub',
  'aud',
  'exp',
  'nbf',
  'iat',
  'jti',
  'htm',
  'htu',
  'ath',
  'nonce',
  'scope',
  'login_hint',
  'id_token_hint',
  'login_hint_token',
  'client_id',
  'client_notification_token',
  'requested_expiry',
  'authorization_details',
  'resource',
  'request',
  'acr_values',
  'binding_message',
  'user_code',
  '__proto__',
  'cnf',
]

function mutatedJwt(jwt: Jwt, random: Random): Jwt {
  const claims = isObject(jwt.claims) ? jwt.claims : {}
  return random.pick<() => Jwt>([
    () => ({ ...jwt, header: { ...jwt.header, [random.pick(headerMembers)]: oddJson(random) } }),
    () => ({
      ...jwt,
      header: {
        ...jwt.header,
        alg: random.pick(['none', 'None', 'HS256', 'RS256', 'ES512', 'EdDSA', 'PS256', 'dir', '', 'A'.repeat(2000)]),
      },
    }),
    () => ({
      ...jwt,
      header: {
        ...jwt.header,
        jwk: random.pick([
          {},
          { kty: 'EC' },
          { kty: 'oct', k: 'AAAA' },
          { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' },
          { kty: 'RSA', n: '', e: '' },
          '$proofJwk',
          null,
          [],
        ]),
      },
    }),
    () => ({ ...jwt, header: { ...jwt.header, [random.pick(headerMembers)]: unconvertible } }),
    () => ({ ...jwt, claims: { ...claims, [random.pick(claimNames)]: oddJson(random) } }),
    () => ({ ...jwt, claims: { ...claims, [random.pick(claimNames)]: oddJson(random) } }),
    () => ({
      ...jwt,
      claims: {
        ...claims,
        [random.pick(claimNames)]: random.pick(['$now+99999999999', '$now-99999999', '$now+1', '{{issuer}}', '$new']),
      },
    }),
    () => ({ ...jwt, claims: without(claims as Record<string, unknown>, random.pick(claimNames)) }),
    () => ({ ...jwt, claims: oddJson(random) }),
    () => ({
      ...jwt,
      payload: random.pick([...nasty, '{', '', 'null', '"', '[]', '{"a":1e999}', '{"exp":1,"exp":2}']),
    }),
    () => ({ ...jwt, key: random.pick(['signer', 'unregistered', 'proof', 'none', 'secret']) }),
    () => ({ ...jwt, spoiled: random.pick(['cut', 'dots', 'swapped', 'bit', 'padded', 'huge']) }),
  ])()
}

// ── JSON ──

/** Cannot be converted to a text, a number or a primitive value. */
const unconvertible = { toString: 1, valueOf: 1 }

function oddJson(random: Random): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => true,
    () => 0,
    () => -1,
    () => 1.5,
    () => 2 ** 53,
    () => 1e308,
    () => '',
    () => [],
    () => ({}),
    () => [[]],
    () => [null],
    () => random.pick(nasty),
    () => [random.pick(nasty), 1],
    () => ({ a: random.pick(nasty) }),
    () => nested(200),
    () => ({ length: 1e9 }),
    () => Array.from({ length: 300 }, (_, index) => index),
    () => ({ ...unconvertible, toJSON: 3 }),
    () => unconvertible,
    () => [unconvertible],
    () => ({ value: unconvertible }),
    () => ({ essential: true, values: [random.pick<unknown>([unconvertible, ...nasty])] }),
    () => `acct:${random.pick(['%00', 'ana%00', '%ed%a0%80', '%', '%5C%22'])}@example.com`,
    () => JSON.parse(random.pick(['{"__proto__":{"polluted":1}}', '{"then":1,"constructor":null}'])) as unknown,
    () => [{ type: 'payment', amount: random.pick(nasty) }],
    () => [{ type: 'payment', amount: 1 }, null],
    () => [{ type: '__proto__' }],
    () => ({ kty: 'EC', crv: 'P-256' }),
    () => ({ keys: [null, 1, {}] }),
    () => 'https://localhost:9/x',
    () => 'http://[::1',
    () => ['https://a.invalid/cb#f'],
  ])()
}

function nested(depth: number): unknown {
  let value: unknown = 1
  for (let level = 0; level < depth; level++) value = level % 2 ? [value] : { a: value }
  return value
}

/** Changes one value in a JSON body, at any depth. */
function changeJson(seed: Seed, random: Random): Seed {
  if (seed.json === undefined) return seed
  if (!isObject(seed.json) || random.chance(0.15)) return { ...seed, json: oddJson(random) }
  return { ...seed, json: changedWithin(seed.json, random) }
}

/** Changes one value, at any depth, in a parameter that is the text of a JSON object. */
function changeInnerJson(seed: Seed, random: Random): Seed {
  const places = (['form', 'query'] as const).flatMap((part) =>
    Object.entries(seed[part] ?? {}).flatMap(([name, said]) => {
      const json = typeof said === 'string' ? objectIn(said) : undefined
      return json === undefined ? [] : [{ part, name, json }]
    }),
  )
  if (places.length === 0) return seed
  const { part, name, json } = random.pick(places)
  return { ...seed, [part]: { ...seed[part], [name]: JSON.stringify(changedWithin(json, random)) } }
}

function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function changedWithin(value: Record<string, unknown>, random: Random): unknown {
  const name = random.pick([...Object.keys(value), random.pick([...names, ...metadataNames])])
  const inner = value[name]
  if (isObject(inner) && random.chance(0.6)) return { ...value, [name]: changedWithin(inner, random) }
  if (random.chance(0.2)) return without(value, name)
  if (random.chance(0.2)) return { ...value, [name]: unconvertible }
  return { ...value, [name]: oddJson(random) }
}

const metadataNames = [
  'token_endpoint_auth_method',
  'token_endpoint_auth_signing_alg',
  'backchannel_token_delivery_mode',
  'redirect_uris',
  'grant_types',
  'response_types',
  'jwks',
  'jwks_uri',
  'sector_identifier_uri',
  'subject_type',
  'scope',
  'client_name',
  'client_name#de',
  'logo_uri',
  'contacts',
  'default_max_age',
  'require_auth_time',
  'tls_client_auth_subject_dn',
  'limits',
  'backchannel_device_service',
  'backchannel_allowed_hints',
  'request_uris',
  'software_statement',
  'id_token_signed_response_alg',
  'post_logout_redirect_uris',
]

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function onlyTexts(json: Record<string, unknown>): Fields {
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
  )
}

// ── serialization ──

/** JSON texts that `JSON.stringify` cannot produce. */
const spelledJson = [
  '{"a":1e999}',
  '{"a":"\\ud800"}',
  '{"a":"\\u0000"}',
  '{"__proto__":{"x":1}}',
  '{"a":1,"a":2}',
  '[1',
  '{"a":',
  '\ufeff{}',
  'NaN',
  '{"a":0x1}',
  "{'a':1}",
  '"',
  '{"a":00}',
  `${'['.repeat(20_000)}`,
  `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`,
  `[${'9'.repeat(5000)}]`,
]

function written(seed: Seed, random: Random): Shot {
  const headers = Object.entries(seed.headers ?? {}).map(([name, said]): [string, string] => [
    name,
    headerText(textOf(said)),
  ])
  const has = (name: string) => headers.some(([each]) => each.toLowerCase() === name)
  if (!has('host')) headers.unshift(['host', 'localhost'])
  const [type, body] = bodyOf(seed, random)
  if (type !== undefined && !has('content-type')) headers.push(['content-type', type])
  const query = seed.query === undefined ? '' : `?${formOf(seed.query)}`
  const framing: Framing = body === undefined ? 'none' : random.chance(0.05) ? 'chunked' : 'length'
  return {
    method: seed.method,
    target: latin1(seed.path + query),
    version: 'HTTP/1.1',
    headers,
    body: body ?? '',
    framing,
  }
}

function bodyOf(seed: Seed, random: Random): [type: string | undefined, body: string | undefined] {
  if (seed.form !== undefined) return ['application/x-www-form-urlencoded', formOf(seed.form)]
  if (seed.json === undefined) return [undefined, hasBody(seed.method) ? '' : undefined]
  const text = random.chance(0.05) ? random.pick(spelledJson) : JSON.stringify(seed.json)
  return ['application/json', latin1(text)]
}

const textOf = (said: Said) => (typeof said === 'string' ? said : holeFor(said.$jwt))

function formOf(fields: Fields): string {
  return Object.entries(fields)
    .map(([name, said]) => `${percent(name)}=${percent(textOf(said))}`)
    .join('&')
}

/** Keeps placeholders; lone surrogates are encoded as a lenient client would. */
function percent(text: string): string {
  return text
    .split(/(\{\{[^{}]*\}\})/)
    .map((piece, index) => (index % 2 ? piece : encodeURIComponent(piece.toWellFormed())))
    .join('')
}

/** Returns a valid header value: one line, with the bytes of UTF-8. */
const headerText = (text: string) => latin1(text.replaceAll(/[\r\n\0]/g, '')).slice(0, 6000)
const latin1 = (text: string) => Buffer.from(text, 'utf8').toString('latin1')

// ── changes of the HTTP message ──

type ShotChange = (shot: Shot, random: Random) => Shot

const contentTypes = [
  'application/x-www-form-urlencoded',
  'application/x-www-form-urlencoded; charset=utf-16',
  'application/x-www-form-urlencoded;charset="utf-8"',
  'application/json',
  'application/json; charset=latin1',
  'text/plain',
  'multipart/form-data; boundary=b',
  'multipart/form-data',
  'application/jwt',
  'application/xml',
  '',
  ';',
  'a/b/c',
  'application/json, application/json',
  '*/*',
]

const shotChanges: ShotChange[] = [
  (shot, random) => ({
    ...shot,
    headers: [...shot.headers.filter(([name]) => name !== 'content-type'), ['content-type', random.pick(contentTypes)]],
  }),
  (shot, random) => ({
    ...shot,
    body: spliced(
      shot.body,
      random.pick([
        '%',
        '%zz',
        '%ff%fe',
        '\xff\xfe',
        '&',
        '=',
        '&&==',
        '%00',
        '+',
        '\0',
        ';',
        '[]=',
        '\xc0\xaf',
        '\xed\xa0\x80',
      ]),
      random,
    ),
  }),
  (shot, random) => ({ ...shot, body: shot.body.slice(0, random.below(shot.body.length + 1)) }),
  (shot) => ({ ...shot, body: `${shot.body}&${shot.body}` }),
  (shot, random) => ({
    ...shot,
    body: `${shot.body}&${random.pick(['a', 'resource', 'scope'])}=${'x'.repeat(random.pick([100, 5000, 65_000, 70_000]))}`,
  }),
  (shot) => ({ ...shot, body: `${shot.body}&${Array.from({ length: 150 }, (_, index) => `p${index}=1`).join('&')}` }),
  ({ body, ...shot }) => ({
    ...shot,
    headers: [
      ...shot.headers.filter(([name]) => name !== 'content-type'),
      ['content-type', 'multipart/form-data; boundary=b'],
    ],
    body: multipart(body),
  }),
  (shot, random) => ({ ...shot, headers: [...shot.headers, random.pick(shot.headers)] }),
  (shot, random) => ({
    ...shot,
    headers: [
      ...shot.headers,
      [
        random.pick(['x-y', 'dpop', 'cookie', 'authorization', 'accept-language']),
        'x'.repeat(random.pick([1000, 9000, 17_000])),
      ],
    ],
  }),
  (shot, random) => ({
    ...shot,
    headers: [
      ...shot.headers,
      ...Array.from({ length: random.pick([50, 150, 3000]) }, (_, index): [string, string] => [`x-${index}`, '1']),
    ],
  }),
  (shot, random) => ({
    ...shot,
    headers: [
      ...shot.headers,
      [
        random.pick(['bad header', 'x\x01', '', 'x:y', 'é', 'transfer-encoding', 'content-length']),
        random.pick(['a', 'chunked', '-1', '1e3', '0x10', ' ', '5, 5']),
      ],
    ],
    framing: 'none',
  }),
  (shot) => ({ ...shot, headers: shot.headers.filter(([name]) => name !== 'host') }),
  (shot, random) => ({
    ...shot,
    method: random.pick(['PROPFIND', 'TRACE', 'CONNECT', 'QUERY', 'get', 'G E T', 'FOO', '', 'PURGE', 'M-SEARCH']),
  }),
  (shot, random) => ({
    ...shot,
    version: random.pick(['HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.1 ', 'http/1.1', '', 'HTTP/9.9']),
  }),
  (shot, random) => ({
    ...shot,
    target: random.pick([
      `${shot.target}\xff`,
      `${shot.target}\x01`,
      shot.target.replaceAll('/', '\\'),
      `${shot.target}?${'a=b&'.repeat(3000)}`,
      `${shot.target}?%`,
      `${shot.target}?a=%ff&a=%00&__proto__=1`,
    ]),
  }),
  (shot, random) => ({ ...shot, framing: random.pick(['chunked', 'short', 'long', 'twice', 'garbled', 'none']) }),
]

function spliced(text: string, piece: string, random: Random): string {
  const at = random.below(text.length + 1)
  return text.slice(0, at) + piece + text.slice(at)
}

function multipart(body: string): string {
  const parts = body.split('&').map((pair) => {
    const [name = '', value = ''] = pair.split('=')
    return `--b\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
  })
  return `${parts.join('')}--b--\r\n`
}

/** Texts that are too long, or cannot be represented in JSON. */
function madeTexts(): string[] {
  const deep = `${'['.repeat(4000)}1${']'.repeat(4000)}`
  return [
    deep,
    `[{"type":"payment","amount":${deep}}]`,
    `[{"type":"payment","amount":1,"to":${deep}}]`,
    'x'.repeat(1025),
    'x'.repeat(20_000),
    'é'.repeat(4000),
    '😀'.repeat(700),
    '9'.repeat(400),
    '%'.repeat(100),
    '\ud800',
    'a\udc00b',
    '{'.repeat(3000),
    '['.repeat(10_000),
    'openid '.repeat(500),
    '../'.repeat(50),
    Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join(''),
  ]
}
