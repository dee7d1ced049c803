/**
 * Shows push messages as notifications, and opens the page of a notification. The user decides on this page, after
 * signing in.
 */

self.addEventListener('push', (event) => {
  const { title, body, link, tag, actions } = messageIn(event.data)
  event.waitUntil(
    self.registration.showNotification(title, {
      body,
      tag,
      actions,
      icon: new URL('assets/icon.svg', self.registration.scope).href,
      requireInteraction: true,
      data: { link },
    }),
  )
})

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  event.waitUntil(self.clients.openWindow(event.notification.data.link))
})

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
