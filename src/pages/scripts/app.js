/** What makes the app's pages better: time that counts down, a list that keeps itself up to date, notifications. */

for (const place of document.querySelectorAll('[data-countdown]')) countDown(place)
for (const place of document.querySelectorAll('[data-live]')) keepUpToDate(place)
for (const form of document.querySelectorAll('form[data-push]')) offerNotifications(form)
if ('serviceWorker' in navigator) navigator.serviceWorker.register('/service-worker.js').catch(() => {})

/** When the time is over the page is asked for again: it says what became of the request. */
function countDown(place) {
  const end = performance.now() + Number(place.dataset.countdown) * 1000
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000))
    const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`
    place.textContent = place.dataset.text.replace('%', time)
    if (left > 0) setTimeout(tick, 1000 - ((performance.now() - end) % 1000))
    else setTimeout(() => location.reload(), 500)
  }
  tick()
}

function keepUpToDate(place) {
  const events = new EventSource(place.dataset.live)
  const lost = document.querySelector('[data-live-lost]')
  // What came between the page and the line, or while the line was cut, is fetched too.
  events.addEventListener('open', () => {
    lost.hidden = true
    return look()
  })
  events.addEventListener('error', () => {
    lost.hidden = events.readyState !== EventSource.CLOSED
  })
  events.addEventListener('changed', look)

  async function look() {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' } }).catch(() => undefined)
    // Where the page cannot be fetched the line is cut too, and comes back with a word of its own.
    if (answer === undefined) return
    if (!answer.ok || answer.redirected) return location.reload()
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('[data-live]')
    // Where nothing is new, nothing is read out again and nobody loses their place.
    if (fresh && fresh.innerHTML !== place.innerHTML) place.replaceChildren(...fresh.childNodes)
  }
}

async function offerNotifications(form) {
  if (!('serviceWorker' in navigator) || !('PushManager' in window)) return
  const registration = await navigator.serviceWorker.ready
  const now = await registration.pushManager.getSubscription()
  const show = (name, is) => {
    form.querySelector(`[data-push-${name}]`).hidden = !is
  }
  form.hidden = false
  show('on', now !== null)
  show('off', now !== null)
  show('offer', now === null)
  show('denied', Notification.permission === 'denied')

  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    try {
      if (now === null) {
        const key = form.dataset.push
        const fresh = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
        send(form, 'subscription', JSON.stringify(fresh))
      } else {
        await now.unsubscribe()
        send(form, 'endpoint', now.endpoint)
      }
    } catch {
      show('denied', true)
    }
  })
}

function send(form, name, value) {
  const field = form.elements.namedItem(name)
  field.disabled = false
  field.value = value
  HTMLFormElement.prototype.submit.call(form)
}
