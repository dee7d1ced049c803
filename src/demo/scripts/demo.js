/**
 * The demo page: sends the order that is entered at the till, and shows the messages that the server reports. Nothing
 * is simulated.
 */

/** The path of the server. It ends with a slash. */
const base = new URL('..', document.currentScript.src).pathname
const find = (name) => document.querySelector(`[data-${name}]`)
const form = find('till')
const display = document.querySelector('.display')
const list = find('messages')
const names = { till: 'Till', doorbell: 'Doorbell', phone: 'Phone' }

/** The number of the purchase that is shown, and the rows of its messages by id. */
let shownRing = 0
let rows = new Map()
let stopCounting = () => {}
/** Whether the request of this purchase is still waiting for Alice. */
let isOpen = false
let lastMail = ''

showMode()
openPhone()
form.addEventListener('change', showMode)
form.addEventListener('submit', ring)
listen()

function showMode() {
  const mode = new FormData(form).get('mode')
  for (const words of form.querySelectorAll('[data-mode]')) words.hidden = words.dataset.mode !== mode
}

async function ring(event) {
  event.preventDefault()
  const answer = await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)) }).catch(
    () => undefined,
  )
  if (answer?.ok) return
  const { error_description: words } = (await answer?.json().catch(() => undefined)) ?? {}
  showState('failed', `Request failed: ${words ?? 'the server does not answer'}`)
}

function listen() {
  const events = new EventSource(`${base}demo/events`)
  const lost = (is) => {
    find('lost').hidden = !is
    find('live').hidden = is
  }
  events.addEventListener('open', () => lost(false))
  events.addEventListener('error', () => lost(true))
  events.addEventListener('till', ({ data }) => showTill(JSON.parse(data)))
  events.addEventListener('wire', ({ data }) => showMessage(JSON.parse(data)))
}

// ── the till ──

const states = {
  ringing: 'Ringing …',
  waiting: 'Waiting for Alice',
  paid: 'Paid. Alice agreed',
  refused: 'Refused by Alice',
  expired: 'Expired. No answer',
  failed: 'Failed',
}

function showTill({ number, item, amount, status, detail, secondsLeft, claims }) {
  if (number !== shownRing) startOver(number)
  find('shown-item').textContent = item
  find('shown-amount').textContent = amount
  isOpen = status === 'ringing' || status === 'waiting'
  if (!isOpen) calmBanner()
  stopCounting()
  showState(status, detail ? `${states[status]}: ${detail}` : states[status])
  if (status === 'waiting') countDown(secondsLeft)
  showClaims(claims, status)
}

function startOver(number) {
  shownRing = number
  rows = new Map()
  list.replaceChildren()
}

function showState(status, words) {
  display.dataset.status = status
  form.dataset.status = status
  find('state').textContent = words
}

function countDown(seconds) {
  const end = performance.now() + seconds * 1000
  const place = document.createElement('span')
  place.className = 'left'
  // Hidden from screen readers, which would read the time aloud every second.
  place.ariaHidden = 'true'
  find('state').append(place)
  const tick = () => {
    const left = Math.max(0, Math.round((end - performance.now()) / 1000))
    place.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`
  }
  tick()
  const timer = setInterval(tick, 1000)
  stopCounting = () => clearInterval(timer)
}

const receiptWords = {
  paid: 'From the ID token; its signature is valid.',
  refused: 'No token, no receipt.',
  expired: 'No token, no receipt.',
}

function showClaims(claims, status) {
  find('receipt').dataset.printed = status === 'paid'
  find('receipt-words').textContent = receiptWords[status] ?? 'The claims of the ID token will be printed here.'
  find('claims').replaceChildren(
    ...claims.flatMap(([name, value]) => [element('dt', '', name), element('dd', '', value)]),
  )
}

// ── the wire ──

function showMessage(message) {
  if (message.number !== shownRing && shownRing !== 0) return
  find('empty').hidden = true
  if (message.link) showMail(message)
  const row = rows.get(message.id) ?? addRow(message)
  fill(row, message)
}

/**
 * Adds a row for a message. If the phone or the till repeats its last call, the row of that call is used again and
 * counts the repetitions.
 */
function addRow(message) {
  const wire = find('wire')
  const atEnd = wire.scrollHeight - wire.scrollTop - wire.clientHeight < 60
  const last = list.lastElementChild
  let row = last
  if (last?.dataset.call === callOf(message) && last.dataset.done !== undefined) {
    last.dataset.count = Number(last.dataset.count) + 1
  } else {
    row = find('message').content.firstElementChild.cloneNode(true)
    row.dataset.call = callOf(message)
    row.dataset.count = 1
    list.append(row)
  }
  rows.set(message.id, row)
  if (atEnd) requestAnimationFrame(() => wire.scrollTo({ top: wire.scrollHeight }))
  return row
}

const callOf = ({ from, to, method, path }) => [from, to, method, path].join(' ')

function fill(row, message) {
  const set = (name, text) => {
    const place = row.querySelector(`.${name}`)
    if (place.textContent !== text) place.textContent = text
  }
  row.className = `of-${message.from} to-${message.to}`
  set('from', names[message.from])
  set('to', names[message.to])
  set('method', message.method)
  set('path', message.path)
  set('times', row.dataset.count > 1 ? ` ×${row.dataset.count}` : '')
  set('status', String(message.status ?? '…'))
  set('meaning', message.meaning)
  const status = row.querySelector('.status')
  status.dataset.kind = message.status === undefined ? 'open' : message.status >= 400 ? 'no' : 'yes'
  if (message.status !== undefined) row.dataset.done = ''
  const { method } = message
  const title = method === 'MAIL' ? 'The mail' : `${names[message.from]} says`
  row
    .querySelector('.inside')
    .replaceChildren(
      ...part(title, [message.authorization && `Authorization: ${message.authorization}`, message.sent]),
      ...part(`${names[message.to]} answers`, [message.answer]),
    )
}

function part(title, texts) {
  const said = texts.filter(Boolean)
  return said.length === 0 ? [] : [element('h3', '', title), element('pre', '', said.join('\n\n'))]
}

// ── the phone ──

/**
 * Loads the phone. The sign-in page in the phone focuses its first field, to which the browser would scroll. The focus
 * is set on the button before, so that the browser does not scroll.
 */
function openPhone() {
  const phone = find('phone')
  form.querySelector('button').focus({ preventScroll: true })
  phone.addEventListener('load', () => {
    if (lastMail !== '' && phone.contentWindow?.location.pathname === lastMail) calmBanner()
  })
  phone.src = base
}

function showMail({ link }) {
  if (!isOpen || link === lastMail) return
  lastMail = link
  const banner = find('banner')
  banner.href = link
  banner.dataset.fresh = ''
  find('banner-text').textContent = 'New mail. Tap to look.'
}

function calmBanner() {
  const banner = find('banner')
  banner.href = base
  delete banner.dataset.fresh
  find('banner-text').textContent = 'No new mail'
}

function element(name, className, text) {
  const made = document.createElement(name)
  if (className) made.className = className
  made.textContent = text
  return made
}
