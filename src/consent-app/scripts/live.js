/**
 * Keeps a page up to date while it is open: the list of requests, and the page of one request, which may be decided on
 * another device, or end with the session. All tabs of a browser share one event stream, because browsers open only six
 * connections to a server with HTTP/1.1. A hidden tab lets go of the stream.
 */

/** The path of the app. It ends with a slash. */
const appPath = new URL('..', document.currentScript.src).pathname

/** Milliseconds until a refused call is repeated: at first, and at most. */
const pauseMs = { first: 2000, longest: 60_000 }

for (const place of document.querySelectorAll('[data-live]')) keepUpToDate(place)

/** Fetches the page again when the server says that something has changed, and shows what is different. */
function keepUpToDate(place) {
  const pauses = createPauses()
  const isRefused = { stream: false, page: false }
  let letGo
  const note = (what, isNow) => {
    isRefused[what] = isNow
    for (const text of document.querySelectorAll('[data-live-lost]')) text.hidden = !isRefused.stream && !isRefused.page
  }
  const look = oneAtATime(fetchAgain)
  const heard = {
    // Requests may have changed before the stream was opened, or while the connection was lost.
    open() {
      note('stream', false)
      return look()
    },
    changed: look,
    lost: () => note('stream', true),
    'is open': () => note('stream', false),
    'is lost': () => note('stream', true),
  }
  const update = () => {
    letGo?.()
    pauses.cancel()
    letGo = document.hidden ? undefined : shareStream(place.dataset.live, (event) => heard[event]())
  }
  document.addEventListener('visibilitychange', update)
  // The user has sent a form, or follows a link. A reload would then cancel this, and the page that tells the outcome of
  // the user's own decision would not be shown.
  let isLeaving = false
  addEventListener('beforeunload', () => {
    isLeaving = true
  })
  addEventListener('pageshow', () => {
    isLeaving = false
  })
  const reload = () => {
    if (!isLeaving) location.reload()
  }
  update()

  async function fetchAgain() {
    const answer = await fetchWhole(location.href).catch(() => undefined)
    // A reload would replace the page by an error page, which does not come back by itself.
    if (answer === undefined || answer.status === 429 || answer.status >= 500) {
      note('page', true)
      pauses.begin(look)
      return
    }
    note('page', false)
    pauses.cancel()
    if (!answer.ok || answer.redirected) return reload()
    const page = new DOMParser().parseFromString(answer.text, 'text/html')
    const fresh = page.querySelector('[data-live]')
    if (isOver(page, fresh)) return reload()
    // If nothing has changed, the list is not replaced: screen readers do not read it again, and the focus stays where
    // it is.
    if (fresh.innerHTML !== place.innerHTML) place.replaceChildren(...fresh.childNodes)
    if (place.dataset.liveRegion) return closeNotificationsBeside(place)
  }

  /** Whether another user has signed in since, or the request of this page is not pending any more. */
  function isOver(page, fresh) {
    const sessionIn = (one) => one.querySelector('form[data-sign-out] [name=form_token]')?.value
    return fresh === null || sessionIn(page) !== sessionIn(document)
  }
}

/** Resolves to the whole answer. Rejects if the connection is lost, also in the middle of the answer. */
async function fetchWhole(url) {
  const answer = await fetch(url, { headers: { accept: 'text/html' } })
  const { ok, redirected, status } = answer
  return { ok, redirected, status, text: await answer.text() }
}

/**
 * Returns a function that does the work again if it is called meanwhile, but only after the work is done. Otherwise an
 * older answer could arrive later than a newer one, and replace it.
 */
function oneAtATime(work) {
  let isWorking = false
  let again = false
  return async () => {
    again = true
    if (isWorking) return
    isWorking = true
    try {
      while (again) {
        again = false
        await work()
      }
    } finally {
      isWorking = false
    }
  }
}

/** Closes the notifications of requests that are not in the list: they were decided elsewhere, or have expired. */
async function closeNotificationsBeside(place) {
  const registration = await navigator.serviceWorker?.getRegistration()
  const listed = new Set([...place.querySelectorAll('a[href]')].map(({ pathname }) => pathname))
  for (const notification of (await registration?.getNotifications()) ?? []) {
    const { pathname } = new URL(notification.data.link, location.href)
    if (pathname.startsWith(`${appPath}approve/`) && !listed.has(pathname)) notification.close()
  }
}

/**
 * Calls `hear` with `open`, `changed` or `lost`, or with `is open` or `is lost` if this has been so for a while. The tab
 * that has the lock opens the stream, and tells the others. When it is closed or hidden, the next tab gets the lock.
 * Without a secure context, there are no locks: each tab has a stream.
 *
 * @returns a function that ends this
 */
function shareStream(url, hear) {
  const canShare = navigator.locks !== undefined && 'BroadcastChannel' in window
  if (!canShare) return openStream(url, hear)
  // Several servers may have issuers on this host that differ in their paths.
  const name = `doorbell live ${appPath}`
  const others = new BroadcastChannel(name)
  const ended = new AbortController()
  /** What this tab has told the others last, if it has the stream. */
  let told
  others.addEventListener('message', ({ data }) => {
    if (data !== 'state?') hear(data)
    else if (told !== undefined) others.postMessage(`is ${told}`)
  })
  // The stream of another tab may be open, or lost, and says so only once.
  others.postMessage('state?')
  hear('changed')
  const lead = () =>
    new Promise((resolve) => {
      const close = openStream(url, (event) => {
        if (event !== 'changed') told = event
        others.postMessage(event)
        hear(event)
      })
      ended.signal.addEventListener('abort', () => resolve(close()))
    })
  navigator.locks.request(name, { signal: ended.signal }, lead).catch(() => {})
  return () => {
    ended.abort()
    others.close()
  }
}

/**
 * Opens an event stream, also again after the server has refused it. A browser itself connects again only if the
 * connection was lost.
 *
 * @returns a function that closes the stream
 */
function openStream(url, hear) {
  const pauses = createPauses()
  let events
  const open = () => {
    events = new EventSource(url)
    events.addEventListener('open', () => {
      pauses.cancel()
      hear('open')
    })
    events.addEventListener('changed', () => hear('changed'))
    events.addEventListener('error', () => {
      if (events.readyState !== EventSource.CLOSED) return
      hear('lost')
      pauses.begin(open)
    })
  }
  open()
  return () => {
    pauses.cancel()
    events.close()
  }
}

/** Pauses that grow. They differ by chance, so that the tabs of many users do not call at the same moment. */
function createPauses() {
  let length = pauseMs.first
  let timer
  return {
    begin(next) {
      clearTimeout(timer)
      timer = setTimeout(next, length * (0.5 + Math.random() / 2))
      length = Math.min(2 * length, pauseMs.longest)
    },
    /** Ends the pause, because a call has succeeded or is not needed any more. The next pause is short again. */
    cancel() {
      clearTimeout(timer)
      length = pauseMs.first
    },
  }
}
