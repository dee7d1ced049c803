#!/bin/sh
# Package:   requests_oauth2client 1.8.0 (with jwskate 0.12.2, requests 2.34.2)
# Set-up:    A client is made by OAuth2Client.from_discovery_document, which from_discovery_endpoint uses, too. The document
#            has the endpoints of CIBA Core §4 and RFC 8628 §4, among others.
# Guess:     The client knows all of these endpoints: it has an attribute and a method for each.
# Behaviour: backchannel_authentication_endpoint and device_authorization_endpoint are not taken over, so that the method for
#            CIBA raises MissingEndpointUri. The caller has to read both from the document and pass them as arguments.
# Output:    taken over: revocation, pushed authorization; not: backchannel authentication, device authorization; CIBA: MissingEndpointUri
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check requests_oauth2client==1.8.0 jwskate==0.12.2 requests==2.34.2
cat > try.py <<'EOF'
import sys

from requests_oauth2client import OAuth2Client

issuer = "https://localhost:9097"
names = ["revocation", "pushed_authorization_request", "backchannel_authentication", "device_authorization"]
document = {"issuer": issuer, "token_endpoint": f"{issuer}/token"}
document.update({f"{name}_endpoint": f"{issuer}/{name}" for name in names})

client = OAuth2Client.from_discovery_document(document, issuer, client_id="one", client_secret="secret")
taken = [name for name in names if getattr(client, f"{name}_endpoint") == f"{issuer}/{name}"]
dropped = [name for name in names if getattr(client, f"{name}_endpoint") is None]
try:
    client.backchannel_authentication_request(scope="openid", login_hint="ana")
    said = "no error"
except Exception as error:
    said = type(error).__name__


def listed(some):
    return ", ".join(name.removesuffix("_request").replace("_", " ") for name in some)


print(f"taken over: {listed(taken)}; not: {listed(dropped)}; CIBA: {said}")
sys.exit(0 if taken == names[:2] and dropped == names[2:] and said == "MissingEndpointUri" else 1)
EOF
venv/bin/python try.py
