/**
 * Forms for which the user needs a passkey:
 *
 *     <form data-passkey="get" data-passkey-options="/where/options/come/from" method="post" action="/…" hidden>
 *       <input name="passkey" type="hidden">
 *       <button>…</button>
 *       <p data-passkey-problem hidden>…</p>
 *     </form>
 *
 * The form is shown if the browser supports passkeys. When the user submits the form, its fields are posted to the address
 * in `data-passkey-options`, which returns the options. With these options, the browser asks the authenticator to use a
 * passkey (`get`) or to create one (`create`). Then the form is submitted with the response of the authenticator, as JSON
 * in `passkey`.
 */
if (window.PublicKeyCredential) {
  for (const form of document.querySelectorAll('form[data-passkey]')) {
    form.hidden = false
    form.addEventListener('submit', (event) => answer(form, event))
  }
  // A user who returns to the page is asked again, because the previous response of the authenticator was already used.
  window.addEventListener('pageshow', () => {
    for (const field of document.querySelectorAll('form[data-passkey] input[name="passkey"]')) field.value = ''
  })
}

async function answer(form, event) {
  const field = form.elements.namedItem('passkey')
  if (field.value !== '') return
  event.preventDefault()
  // If the user submits the form twice, the authenticator is asked only once.
  if (form.dataset.passkeyBusy) return
  form.dataset.passkeyBusy = 'yes'
  showProblem(form, false)
  try {
    const options = await fetchOptions(form)
    field.value = JSON.stringify(describe(await ask(form.dataset.passkey, options)))
    form.requestSubmit(event.submitter)
  } catch {
    // The user cancelled, or took too long, or has no such passkey on this device. Browsers do not say which.
    showProblem(form, true)
  } finally {
    delete form.dataset.passkeyBusy
  }
}

async function fetchOptions(form) {
  const response = await fetch(form.dataset.passkeyOptions, {
    method: 'POST',
    headers: { accept: 'application/json' },
    body: new URLSearchParams(new FormData(form)),
  })
  if (!response.ok) throw new Error('no options')
  return response.json()
}

function ask(what, options) {
  const publicKey = { ...options, challenge: toBytes(options.challenge) }
  if (what === 'get') {
    publicKey.allowCredentials = options.allowCredentials?.map(withBytes)
    return navigator.credentials.get({ publicKey })
  }
  publicKey.user = withBytes(options.user)
  publicKey.excludeCredentials = options.excludeCredentials?.map(withBytes)
  return navigator.credentials.create({ publicKey })
}

/**
 * Returns the credential for JSON. `credential.toJSON()` is not used, because credentials from password managers often lack
 * this method.
 */
function describe({ id, rawId, type, authenticatorAttachment, response }) {
  return {
    id,
    rawId: toText(rawId),
    type,
    authenticatorAttachment: authenticatorAttachment ?? undefined,
    clientExtensionResults: {},
    response: {
      clientDataJSON: toText(response.clientDataJSON),
      ...(response.attestationObject && {
        attestationObject: toText(response.attestationObject),
        transports: response.getTransports?.() ?? [],
      }),
      ...(response.authenticatorData &&
        response.signature && {
          authenticatorData: toText(response.authenticatorData),
          signature: toText(response.signature),
          userHandle: response.userHandle ? toText(response.userHandle) : undefined,
        }),
    },
  }
}

function withBytes(thing) {
  return { ...thing, id: toBytes(thing.id) }
}

function toBytes(base64url) {
  const binary = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(binary, (character) => character.charCodeAt(0))
}

function toText(buffer) {
  const binary = String.fromCharCode(...new Uint8Array(buffer))
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

function showProblem(form, is) {
  const problem = form.querySelector('[data-passkey-problem]')
  if (problem) problem.hidden = !is
}
