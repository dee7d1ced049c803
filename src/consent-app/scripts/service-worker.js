/**
 * Shows push messages as notifications, and opens the page of a notification. The user decides on this page, after
 * signing in. Tells the server if the browser has replaced the push subscription.
 */

self.addEventListener('push', (event) => {
  const { title, body, link, tag, actions } = messageIn(event.data)
  event.waitUntil(
    self.registration.showNotification(title, {
      body,
      tag,
      actions,
      icon: addressOf('assets/icon.svg'),
      requireInteraction: true,
      data: { link },
    }),
  )
})

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  event.waitUntil(self.clients.openWindow(event.notification.data.link))
})

/**
 * The browser has replaced or removed the push subscription. Firefox passes the new subscription. Chrome calls this when
 * the user permits notifications again, and passes none: then this subscribes again.
 *
 * If no user is signed in, the server does not store the new subscription. The next page that the user opens stores it.
 */
self.addEventListener('pushsubscriptionchange', (event) => {
  event.waitUntil(renewSubscription(event.newSubscription))
})

async function renewSubscription(replacement) {
  const { pushManager } = self.registration
  const subscription = replacement ?? (await pushManager.getSubscription()) ?? (await subscribeAgain(pushManager))
  if (!subscription) return
  const body = new URLSearchParams({ subscription: JSON.stringify(subscription) })
  await fetch(addressOf('notifications/renew'), { method: 'POST', body })
}

async function subscribeAgain(pushManager) {
  const { key } = await (await fetch(addressOf('notifications/key'))).json()
  try {
    return key && (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }))
  } catch {
    // The user does not permit notifications, or the push service cannot be reached. Then the page offers notifications.
    return null
  }
}

/** Returns the address of a path of the app, which may be below a path of the host. */
function addressOf(path) {
  return new URL(path, self.registration.scope).href
}

/** A push service may deliver a message without its content. Then the notification leads to the list of requests. */
function messageIn(data) {
  const unknown = { title: 'Doorbell', link: self.registration.scope, tag: 'doorbell' }
  try {
    const message = data.json()
    return typeof message?.title === 'string' ? message : unknown
  } catch {
    return unknown
  }
}
