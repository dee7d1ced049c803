#!/bin/sh
# Package:   jose 6.2.18, on Node 20 or newer
# Set-up:    A client keeps its RSA key in a key vault and publishes the public key as the vault returns it, with the six
#            key_ops of the key pair: encrypt, decrypt, sign, verify, wrapKey, unwrapKey. The server verifies a client
#            assertion with jwtVerify and createLocalJWKSet (createRemoteJWKSet selects keys in the same way).
# Guess:     "verify" is in the list, so the assertion is verified; or else the key is passed over, and the error is
#            JWKSNoMatchingKey, a JOSEError.
# Behaviour: The key is selected because of "verify", and then imported for all operations in the list. WebCrypto refuses
#            "sign" for a public key, so jwtVerify rejects with a DOMException named SyntaxError, which is no JOSEError: a
#            server that answers invalid_client only for JOSEErrors answers 500. With ["verify"], or without key_ops, the same
#            key verifies the assertion.
# Output:    all six: SyntaxError, a JOSEError: false; verify: verified; none: verified
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund jose@6.2.18 >download 2>&1 || { cat download >&2; exit 2; }
cat > try.mjs <<'EOF'
import { createLocalJWKSet, errors, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose'

const { publicKey, privateKey } = await generateKeyPair('RS256')
const assertion = await new SignJWT({ iss: 'till', sub: 'till' })
  .setProtectedHeader({ alg: 'RS256', kid: 'vault' })
  .sign(privateKey)
const key = { ...(await exportJWK(publicKey)), kid: 'vault' }

const outcome = (key_ops) =>
  jwtVerify(assertion, createLocalJWKSet({ keys: [{ ...key, ...(key_ops && { key_ops }) }] })).then(
    () => 'verified',
    (error) => `${error.name}, a JOSEError: ${error instanceof errors.JOSEError}`,
  )

const ofVault = ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey']
const seen = `all six: ${await outcome(ofVault)}; verify: ${await outcome(['verify'])}; none: ${await outcome()}`
console.log(seen)
process.exitCode = seen === 'all six: SyntaxError, a JOSEError: false; verify: verified; none: verified' ? 0 : 1
EOF
node try.mjs
