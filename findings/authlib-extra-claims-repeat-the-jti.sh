#!/bin/sh
# Package:   Authlib 1.9.10 (with joserfc 1.8.0, requests 2.34.2)
# Set-up:    A client authenticates by private_key_jwt, and adds a claim of its own: PrivateKeyJWT(url, claims={...}). It asks
#            for a token twice. Then the same without the extra claim.
# Guess:     Each assertion has a new jti, as it has without extra claims: OpenID Connect Core §9 calls it a unique
#            identifier by which a server can refuse a repeated assertion.
# Behaviour: The generated jti is stored in the dict of extra claims, so that each later assertion of this object contains
#            the first one. A server that keeps the used values accepts the first request and refuses the second. Who needs
#            extra claims has to register a new PrivateKeyJWT with a new dict before each request.
# Output:    different jti in two assertions: 1 with an extra claim, 2 without; the caller's claims are now: jti, tenant
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check Authlib==1.9.10 joserfc==1.8.0 requests==2.34.2
cat > try.py <<'EOF'
import io
import sys
from urllib.parse import parse_qs

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey
from requests import Response
from requests.adapters import BaseAdapter

url = "https://provider.example/token"
key = ECKey.generate_key("P-256")


class Provider(BaseAdapter):
    """Answers in place of the token endpoint, and keeps the jti of each assertion."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def send(self, request, **kwargs):
        assertion = parse_qs(request.body)["client_assertion"][0]
        self.seen.append(jwt.decode(assertion, key, algorithms=["ES256"]).claims["jti"])
        response = Response()
        response.status_code = 200
        response.request = request
        response.raw = io.BytesIO(b'{"access_token":"one","token_type":"Bearer"}')
        return response

    def close(self):
        pass


def different(claims):
    provider = Provider()
    session = OAuth2Session("a-client", key, token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(PrivateKeyJWT(url, claims=claims, alg="ES256"))
    session.mount(url, provider)
    for _ in range(2):
        session.fetch_token(url, grant_type="client_credentials")
    assert len(provider.seen) == 2
    return len(set(provider.seen))


extra = {"tenant": "one"}
found = (different(extra), different(None), ", ".join(sorted(extra)))
print(
    f"different jti in two assertions: {found[0]} with an extra claim, {found[1]} without; "
    f"the caller's claims are now: {found[2]}"
)
sys.exit(0 if found == (1, 2, "jti, tenant") else 1)
EOF
venv/bin/python try.py
