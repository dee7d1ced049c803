/**
 * Forms that are answered with a passkey:
 *
 *     <form data-passkey="get" data-passkey-options="/where/options/come/from" method="post" action="/…" hidden>
 *       <input name="passkey" type="hidden">
 *       <button>…</button>
 *       <p data-passkey-problem hidden>…</p>
 *     </form>
 *
 * The form is shown where there are passkeys. When it is sent, its fields are posted to the options' address, the
 * authenticator is asked (`get`: use a passkey, `create`: make one), and its answer goes along as JSON in `passkey`.
 */
if (window.PublicKeyCredential) {
  for (const form of document.querySelectorAll('form[data-passkey]')) {
    form.hidden = false
    form.addEventListener('submit', (event) => answer(form, event))
  }
  // Somebody who comes back to the page is asked again: the answer of before is used up.
  window.addEventListener('pageshow', () => {
    for (const field of document.querySelectorAll('form[data-passkey] input[name="passkey"]')) field.value = ''
  })
}

async function answer(form, event) {
  const field = form.elements.namedItem('passkey')
  if (field.value !== '') return
  event.preventDefault()
  // Somebody who presses twice is asked once.
  if (form.dataset.passkeyBusy) return
  form.dataset.passkeyBusy = 'yes'
  showProblem(form, false)
  try {
    const options = await fetchOptions(form)
    field.value = JSON.stringify(describe(await ask(form.dataset.passkey, options)))
    form.requestSubmit(event.submitter)
  } catch {
    // Cancelled, timed out, or no such passkey here: browsers do not tell which.
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

/** By hand, not by `credential.toJSON()`: what password managers put in the browser's place often lacks it. */
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
