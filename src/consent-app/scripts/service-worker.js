/**
 * Shows push messages as notifications, and opens the page of a notification. The user decides on this page, after
 * signing in.
 */

self.addEventListener('push', (event) => {
  const { title, body, link, tag, actions } = event.data.json()
  event.waitUntil(
    self.registration.showNotification(title, {
      body,
      tag,
      actions,
      icon: '/assets/icon.svg',
      requireInteraction: true,
      data: { link },
    }),
  )
})

self.addEventListener('notificationclick', (event) => {
  event.notification.close()
  event.waitUntil(self.clients.openWindow(event.notification.data.link))
})
