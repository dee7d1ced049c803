/** The messages that the demo shows between its till, Doorbell and the phone, with their secrets shortened. */

export type Party = 'till' | 'doorbell' | 'phone'

/** A message as the page shows it. It contains no usable secret. */
export interface WireMessage {
  id: number
  /** The number of the purchase that the message belongs to; 0 before the first purchase. */
  number: number
  from: Party
  to: Party
  /** GET or POST; MAIL for a mail. */
  method: string
  path: string
  /** An explanation for newcomers. */
  meaning: string
  authorization: string | undefined
  sent: string
  /** The status of the response; undefined until the response has arrived. */
  status: number | string | undefined
  answer: string
  /** For a mail: the path of its link. */
  link: string | undefined
}

/** A message before its secrets are shortened. */
export interface Sent {
  from: Party
  to: Party
  method: string
  path: string
  meaning: string
  authorization?: string | undefined
  contentType?: string | undefined
  body?: string | undefined
  link?: string
}

/** The response to a message. */
export interface Answered {
  status: number | string
  contentType?: string | undefined
  body?: string | undefined
  /** If set, replaces the explanation that was shown for the request. */
  meaning?: string | undefined
}

export interface Wire {
  /** Begins a new purchase and discards all messages. */
  begin(number: number): void
  /** Adds a message. Returns a function that adds its response. */
  send(message: Sent): (answer: Answered) => void
  /** Adds a message that represents a mail to the user of the phone. */
  showMail(mail: { to: string; subject: string; text: string; link: string }): void
  messages(): readonly WireMessage[]
  /**
   * Calls `listener` for every message, and again when its response has arrived. Returns a function that removes
   * `listener`.
   */
  listen(listener: (message: WireMessage) => void): () => void
}

/** Maximum number of messages that are kept, so that pages that are opened later can show them. */
const kept = 200
/** Maximum number of characters of a body that are shown. */
const longestBody = 4_000

export function createWire(): Wire {
  const listeners = new Set<(message: WireMessage) => void>()
  let messages: WireMessage[] = []
  let number = 0
  let count = 0

  function tell(message: WireMessage): void {
    for (const listener of listeners) listener(message)
  }

  function send({ from, to, method, path, meaning, authorization, contentType, body, link }: Sent) {
    const message: WireMessage = {
      id: ++count,
      number,
      from,
      to,
      method,
      path: shortenWords(path),
      meaning,
      authorization: authorization && shortenAuthorization(authorization),
      sent: showBody(contentType, body),
      status: undefined,
      answer: '',
      link,
    }
    messages = [...messages, message].slice(-kept)
    tell(message)
    return (answer: Answered) => {
      message.status = answer.status
      message.answer = showBody(answer.contentType, answer.body)
      message.meaning = answer.meaning ?? meaning
      tell(message)
    }
  }

  return {
    begin(next) {
      number = next
      messages = []
    },
    send,
    showMail({ to, subject, text, link }) {
      const { pathname } = new URL(link)
      const meaning = 'Doorbell notifies the phone. The mail contains a link, and no secret.'
      const body = `${subject}\n\n${text}`
      send({ from: 'doorbell', to: 'phone', method: 'MAIL', path: to, meaning, body, link: pathname })({
        status: 'delivered',
      })
    },
    messages: () => messages,
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

const secretNames = new Set([
  'auth_req_id',
  'urn:openid:params:jwt:claim:auth_req_id',
  'client_notification_token',
  'client_secret',
  'client_assertion',
  'access_token',
  'refresh_token',
  'id_token',
  'id_token_hint',
  'login_hint_token',
  'passkey',
])

/** Returns the first six characters of a secret, so that viewers of the page can tell two secrets apart. */
export function shorten(secret: string): string {
  return `${secret.slice(0, 6)}…`
}

/**
 * Shortens every word of 40 or more characters, because it may be a secret. Parts that follow it after dots, as in a
 * JWT, belong to the word. This is done in all parameters, because a secret may be in a parameter that `secretNames`
 * does not contain.
 */
function shortenWords(text: string): string {
  return text.replaceAll(/[\w-]{40,}(\.[\w-]+)*/g, shorten)
}

function shortenAuthorization(authorization: string): string {
  const [scheme = '', secret = ''] = authorization.split(' ')
  return secret === '' ? shorten(scheme) : `${scheme} ${shorten(secret)}`
}

function showBody(contentType = '', body = ''): string {
  if (body === '') return ''
  const text = contentType.startsWith('application/json') ? showJson(body) : showForm(contentType, body)
  return text.length > longestBody ? `${text.slice(0, longestBody)}\n…` : text
}

function showJson(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body, shortenMember), null, 2)
  } catch {
    return shortenWords(body)
  }
}

function shortenMember(name: string, value: unknown): unknown {
  if (typeof value === 'string') return secretNames.has(name) ? shorten(value) : shortenWords(value)
  return secretNames.has(name) && typeof value === 'object' ? '…' : value
}

function showForm(contentType: string, body: string): string {
  if (!contentType.startsWith('application/x-www-form-urlencoded')) return shortenWords(body)
  return [...new URLSearchParams(body)].map(([name, value]) => `${name} = ${shortenMember(name, value)}`).join('\n')
}
