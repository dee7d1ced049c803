/** What the demo shows between its till, Doorbell and the phone: every message that passed, with its secrets shortened. */

export type Party = 'till' | 'doorbell' | 'phone'

/** A message as it is shown: nothing in it can be used. */
export interface WireMessage {
  id: number
  /** To which ring of the till it belongs; 0 before the first. */
  number: number
  from: Party
  to: Party
  /** GET, POST; MAIL for what is not HTTP. */
  method: string
  path: string
  /** What it means, for somebody who has never seen it. */
  meaning: string
  authorization: string | undefined
  sent: string
  /** Once it is answered. */
  status: number | string | undefined
  answer: string
  /** For a mail: where its link leads, without the origin. */
  link: string | undefined
}

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

export interface Answered {
  status: number | string
  contentType?: string | undefined
  body?: string | undefined
  /** If the answer says more than the question. */
  meaning?: string | undefined
}

export interface Wire {
  /** Forgets what was: a new ring is a new story. */
  begin(number: number): void
  /** A message sets out. Answers how to say that it was answered. */
  send(message: Sent): (answer: Answered) => void
  /** A mail reaches the phone's mailbox. */
  showMail(mail: { to: string; subject: string; text: string; link: string }): void
  messages(): readonly WireMessage[]
  /** Hears every message when it sets out, and again when it is answered. Returns how to stop listening. */
  listen(listener: (message: WireMessage) => void): () => void
}

/** Messages kept for who opens the page later, and characters shown of a body. */
const kept = 200
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

/** The first six characters: enough to see that two are the same. */
export function shorten(secret: string): string {
  return `${secret.slice(0, 6)}…`
}

/** Whatever it is called: what is as long as our secrets, or looks like a JWT, is shortened as well. */
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
