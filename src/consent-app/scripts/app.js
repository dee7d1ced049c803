/**
 * Improves the app's pages: counts down the remaining time, and offers notifications.
 */

/** The path of the app. It ends with a slash. */
const base = new URL('..', document.currentScript.src).pathname

for (const place of document.querySelectorAll('[data-countdown]')) countDown(place)
if ('serviceWorker' in navigator) {
  navigator.serviceWorker.register(`${base}service-worker.js`).catch(() => {})
  const signOut = document.querySelector('form[data-sign-out]')
  if (signOut && 'PushManager' in window) {
    const own = findOwnSubscription(signOut).catch(() => null)
    for (const form of document.querySelectorAll('form[data-push]')) offerNotifications(form, own)
    endSubscriptionAtSignOut(signOut)
  }
}

/** Counts down the remaining seconds. At 0, the page is loaded again and shows the new status of the request. */
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

/**
 * Resolves to the push subscription of this browser if it belongs to the signed-in user, otherwise to null. A
 * subscription of another user is removed at the server and in the browser.
 */
async function findOwnSubscription(signOut) {
  const registration = await navigator.serviceWorker.getRegistration()
  const subscription = await registration?.pushManager.getSubscription()
  if (!subscription) return null
  const fields = { form_token: signOut.elements.namedItem('form_token').value, endpoint: subscription.endpoint }
  const answer = await fetch(`${base}notifications/claim`, { method: 'POST', body: new URLSearchParams(fields) })
  const { subscribed, ended_another: endedAnother } = await answer.json()
  if (endedAnother) {
    await subscription.unsubscribe()
    return null
  }
  return hasServersKey(subscription) && (subscribed || (await renew(subscription))) ? subscription : null
}

/**
 * Resolves to whether the server has stored a subscription by which the browser has replaced that of this user. Usually
 * the service worker has told the server, but not if no user was signed in, or if the server could not be reached.
 */
async function renew(subscription) {
  const body = new URLSearchParams({ subscription: JSON.stringify(subscription) })
  const answer = await fetch(`${base}notifications/renew`, { method: 'POST', body })
  return answer.ok && (await answer.json()).subscribed
}

/** Returns whether a subscription is for the current key of the server. Messages with another key are refused. */
function hasServersKey({ options }) {
  const form = document.querySelector('form[data-push]')
  const key = options?.applicationServerKey
  if (!form || !key) return true
  const text = btoa(String.fromCharCode(...new Uint8Array(key)))
  return text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '') === form.dataset.push
}

/**
 * Removes the push subscription of this browser when the user signs out. Otherwise the next person at this browser
 * could read messages to this user.
 */
function endSubscriptionAtSignOut(form) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    const enough = new Promise((resolve) => setTimeout(resolve, 2000))
    await Promise.race([enough, unsubscribe(form).catch(() => {})])
    HTMLFormElement.prototype.submit.call(form)
  })
}

async function unsubscribe(form) {
  const registration = await navigator.serviceWorker.getRegistration()
  const subscription = await registration?.pushManager.getSubscription()
  if (!subscription) return
  form.elements.namedItem('endpoint').value = subscription.endpoint
  await subscription.unsubscribe()
}

async function offerNotifications(form, own) {
  const registration = await navigator.serviceWorker.ready
  const now = await own
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
        // The browser may still have a subscription for another key. It allows only one, so the old one is removed
        // first.
        await (await registration.pushManager.getSubscription())?.unsubscribe()
        const fresh = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
        send(form, { subscription: JSON.stringify(fresh), endpoint: fresh.endpoint })
      } else {
        await now.unsubscribe()
        send(form, { endpoint: now.endpoint })
      }
    } catch {
      const isDenied = Notification.permission === 'denied'
      show('denied', isDenied)
      show('failed', !isDenied)
    }
  })
}

function send(form, values) {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements.namedItem(name)
    field.disabled = false
    field.value = value
  }
  HTMLFormElement.prototype.submit.call(form)
}
