#!/bin/sh
# Package:   requests_oauth2client 1.8.0 (with jwskate 0.12.2, requests 2.34.2)
# Set-up:    A client exchanges an authorization code with authorization_code(response), and the answer contains a valid ID
#            token: once with a bearer token, once, with dpop=True, with a token that is bound to a key.
# Guess:     Both return the tokens, with a verified ID token, which does not depend on the type of the access token.
# Behaviour: With DPoP, DPoPToken.validate_id_token raises a TypeError: it copies the token after all checks have passed, and
#            leaves out the key. By then the code has been used, and the caller has no token. A way around it is
#            authorization_code(response, dpop=True, validate=False), then validate_id_token of a BearerToken with the same
#            access token and ID token.
# Output:    bearer: BearerToken, sub ana; DPoP: TypeError; DPoP without validation: DPoPToken, and checked as a bearer token: sub ana
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check requests_oauth2client==1.8.0 jwskate==0.12.2 requests==2.34.2
cat > try.py <<'EOF'
import io
import json
import sys
import time

import requests
from jwskate import Jwk, Jwt
from requests.adapters import BaseAdapter
from requests_oauth2client import AuthorizationResponse, BearerToken, OAuth2Client

issuer = "https://provider.example"
key = Jwk.generate(alg="ES256", kid="one")


class Provider(BaseAdapter):
    """Answers in place of the token endpoint: a request with a proof gets a token of the type DPoP."""

    def send(self, request, **kwargs):
        now = int(time.time())
        claims = {"iss": issuer, "aud": "a-client", "sub": "ana", "iat": now, "exp": now + 300}
        answer = {
            "access_token": "token-of-ana",
            "token_type": "DPoP" if "DPoP" in request.headers else "Bearer",
            "expires_in": 300,
            "id_token": str(Jwt.sign(claims, key)),
        }
        response = requests.Response()
        response.status_code = 200
        response.request = request
        response.raw = io.BytesIO(json.dumps(answer).encode())
        return response

    def close(self):
        pass


session = requests.Session()
session.mount(issuer, Provider())
client = OAuth2Client(
    f"{issuer}/token",
    client_id="a-client",
    client_secret="secret",
    issuer=issuer,
    authorization_server_jwks=key.public_jwk().as_jwks(),
    id_token_signed_response_alg="ES256",
    session=session,
)
returned = AuthorizationResponse(code="one", redirect_uri="https://app.example/callback", issuer=issuer)

bearer = client.authorization_code(returned)
plain = f"{type(bearer).__name__}, sub {bearer.id_token.sub}"
is_about_the_key = False
try:
    bound = type(client.authorization_code(returned, dpop=True)).__name__
except Exception as error:
    bound = type(error).__name__
    is_about_the_key = "_dpop_key" in str(error)
token = client.authorization_code(returned, dpop=True, validate=False)
checked = BearerToken(token.access_token, id_token=token.id_token).validate_id_token(client, returned)
around = f"{type(token).__name__}, and checked as a bearer token: sub {checked.id_token.sub}"
print(f"bearer: {plain}; DPoP: {bound}; DPoP without validation: {around}")
sys.exit(0 if (plain, bound) == ("BearerToken, sub ana", "TypeError") and is_about_the_key else 1)
EOF
venv/bin/python try.py
