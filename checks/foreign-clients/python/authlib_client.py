"""A client that uses Authlib. It has client authentication, token requests, JWTs and ID tokens, but no CIBA."""

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64encode

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from stage import asked, certificate, clients, decide, issuer, notified, pause_until, play_all, refused, sub

CIBA = "urn:openid:params:grant-type:ciba"


def key_of(client):
    jwk = client["jwk"]
    return (RSAKey if jwk["kty"] == "RSA" else ECKey).import_key(jwk)


class Caller:
    """A session of the library, and the two calls of CIBA."""

    def __init__(self, client, method="client_secret_basic", shows=None):
        self.client = client
        secret = key_of(client) if method == "private_key_jwt" else client.get("client_secret")
        self.session = OAuth2Session(
            client["client_id"],
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            cert=certificate(client if shows is None else shows),
        )
        if method == "private_key_jwt":
            # By default, the assertions of the library are valid for an hour, and their audience is the called
            # endpoint.
            header = {"kid": client["jwk"]["kid"]}
            self.session.register_client_auth_method(PrivateKeyJWT(headers=header, alg=client["jwk"]["alg"]))
        self.document = self.get(f"{issuer}/.well-known/openid-configuration")
        self.session.metadata["token_endpoint"] = self.document["token_endpoint"]

    def get(self, url):
        return self.session.get(url, withhold_token=True).json()

    def initiate(self, **parameters):
        auth = self.session.client_auth(self.session.token_endpoint_auth_method)
        endpoint = self.document["backchannel_authentication_endpoint"]
        answer = self.session.post(endpoint, data=parameters or asked, auth=auth)
        answer.raise_for_status()
        return answer.json()

    def collect(self, auth_req_id, **more):
        token = self.session.fetch_token(grant_type=CIBA, auth_req_id=auth_req_id, **more)
        self.verify(token)
        return token

    def verify(self, token):
        """Validates an ID token with the library, against the keys of `jwks_uri`."""
        keys = KeySet.import_key_set(self.get(self.document["jwks_uri"]))
        decoded = jwt.decode(token["id_token"], keys, algorithms=[self.client["id_token_signed_response_alg"]])
        options = {"iss": {"values": [issuer]}, "aud": {"value": self.client["client_id"]}}
        parameters = {"access_token": token["access_token"], "client_id": self.client["client_id"]}
        claims = CodeIDToken(decoded.claims, decoded.header, options, parameters)
        claims.validate()
        assert claims["sub"] == sub
        return claims

    def userinfo(self):
        answer = self.session.get(self.document["userinfo_endpoint"])
        answer.raise_for_status()
        assert answer.json()["sub"] == sub

    def refresh(self):
        # The ID token of a refresh has an at_hash, which the library checks. The ID token of a poll has none.
        assert self.verify(self.session.refresh_token())["at_hash"]
        self.userinfo()

    def play(self, **parameters):
        auth_req_id = self.initiate(**parameters)["auth_req_id"]
        decide(auth_req_id)
        token = self.collect(auth_req_id)
        self.userinfo()
        return token


def pending(caller, auth_req_id):
    try:
        caller.collect(auth_req_id)
    except OAuthError as problem:
        assert problem.error == "authorization_pending", problem.error
    else:
        raise AssertionError("the request was not pending")


by_hand = "the library has no CIBA: its session sends the request"


def poll():
    caller = Caller(clients["poll"])
    response = caller.initiate()
    assert response["interval"] == 1
    # Begins a poll every `interval` seconds, counted from the acknowledgement. The duration of a poll does not matter.
    begin = time.monotonic()
    for polls in range(1, 5):
        pause_until(begin, polls)
        pending(caller, response["auth_req_id"])
    decide(response["auth_req_id"])
    pause_until(begin, 5)
    token = caller.collect(response["auth_req_id"])
    caller.refresh()
    caller.session.revoke_token(caller.document["revocation_endpoint"], token["access_token"], "access_token")
    answer = caller.session.introspect_token(caller.document["introspection_endpoint"], token["access_token"])
    assert answer.json()["active"] is False
    return by_hand


def denied():
    caller = Caller(clients["poll"])
    auth_req_id = caller.initiate()["auth_req_id"]
    decide(auth_req_id, "deny")
    refused(400, lambda: caller.collect(auth_req_id), "access_denied")
    return by_hand


def poll_with_assertion():
    caller = Caller(clients["assertion"], "private_key_jwt")
    caller.play()
    caller.refresh()
    return by_hand


def ping():
    caller = Caller(clients["ping"], "client_secret_post")
    token = secrets.token_urlsafe(24)
    auth_req_id = caller.initiate(**asked, client_notification_token=token)["auth_req_id"]
    decide(auth_req_id)
    assert notified(auth_req_id) == ("/ping", f"Bearer {token}", {"auth_req_id": auth_req_id})
    caller.collect(auth_req_id)
    return f"{by_hand}; the endpoint is of http.server"


def push(client, method):
    caller = Caller(client, method)
    token = secrets.token_urlsafe(24)
    auth_req_id = caller.initiate(**asked, client_notification_token=token)["auth_req_id"]
    decide(auth_req_id)
    path, authorization, body = notified(auth_req_id)
    assert (path, authorization) == ("/push", f"Bearer {token}")
    claims = caller.verify(body)
    assert claims["at_hash"] and claims["urn:openid:params:jwt:claim:auth_req_id"] == auth_req_id
    caller.session.token = body
    caller.userinfo()
    return f"{by_hand}; the endpoint is of http.server"


def push_denied():
    caller = Caller(clients["push"])
    parameters = {**asked, "client_notification_token": secrets.token_urlsafe(24)}
    auth_req_id = caller.initiate(**parameters)["auth_req_id"]
    decide(auth_req_id, "deny")
    assert notified(auth_req_id)[2]["error"] == "access_denied"
    return f"{by_hand}; the endpoint is of http.server"


def registration():
    caller = Caller(clients["poll"])
    metadata = {
        "grant_types": [CIBA, "refresh_token"],
        "backchannel_token_delivery_mode": "poll",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    answer = caller.session.post(caller.document["registration_endpoint"], json=metadata, withhold_token=True)
    assert answer.status_code == 201, answer.text
    own = answer.json()
    registered = Caller(own)
    registered.play()
    # A session of the library sends the registration access token like any other bearer token.
    manager = OAuth2Session(token={"access_token": own["registration_access_token"], "token_type": "bearer"})
    assert manager.get(own["registration_client_uri"]).json()["client_id"] == own["client_id"]
    assert manager.delete(own["registration_client_uri"]).status_code == 204
    refused(401, registered.initiate)
    return "the library registers clients as a server only: sent with its session"


def signed_request():
    own = clients["signed"]
    caller = Caller(own, "private_key_jwt")
    now = int(time.time())
    claims = {**asked, "iss": own["client_id"], "aud": issuer, "jti": secrets.token_urlsafe(16)}
    claims |= {"iat": now, "nbf": now, "exp": now + 60}
    header = {"alg": "PS256", "kid": own["jwk"]["kid"], "typ": "oauth-authz-req+jwt"}
    caller.play(request=jwt.encode(header, claims, key_of(own), algorithms=["PS256"]))
    caller.refresh()
    refused(400, caller.initiate, "invalid_request")
    return f"{by_hand}; signed with joserfc, to which the library passes all JWTs"


def mutual_tls(own):
    # The library has no method for mutual TLS, so the client sends client_id like a public client.
    caller = Caller(own, "none")
    token = caller.play()
    caller.refresh()
    for shows in ({}, clients["bound"]):
        other = Caller(own, "none", shows)
        refused(401, other.initiate)
        other.session.token = token
        refused(401, other.userinfo)
    return f"{by_hand}, as a public client with the certificate"


def bound_tokens():
    own = clients["bound"]
    caller = Caller(own)
    token = caller.play()
    caller.refresh()
    for shows in ({}, clients["self_signed"]):
        other = Caller(own, shows=shows)
        other.session.token = token
        refused(401, other.userinfo)
    return by_hand


def dpop():
    own = clients["dpop"]
    caller = Caller(own, "private_key_jwt")
    key = ECKey.generate_key("P-256")
    nonce = None

    def proof(method, url, signed_with=key, access_token=None):
        claims = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(time.time())}
        claims |= {"nonce": nonce} if nonce else {}
        if access_token is not None:
            hashed = hashlib.sha256(access_token.encode()).digest()
            claims["ath"] = urlsafe_b64encode(hashed).rstrip(b"=").decode()
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": signed_with.as_dict(private=False)}
        return jwt.encode(header, claims, signed_with, algorithms=["ES256"])

    def headers():
        form = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        return {**form, "DPoP": proof("POST", caller.document["token_endpoint"])}

    def keep_nonce(answer, **_):
        nonlocal nonce
        nonce = answer.headers.get("DPoP-Nonce", nonce)

    caller.session.hooks["response"].append(keep_nonce)
    auth_req_id = caller.initiate()["auth_req_id"]
    decide(auth_req_id)
    refused(400, lambda: caller.collect(auth_req_id, headers=headers()), "use_dpop_nonce")
    token = caller.collect(auth_req_id, headers=headers())
    assert token["token_type"] == "DPoP"
    token = caller.session.refresh_token(headers=headers())
    caller.verify(token)

    def userinfo(signed_with=key):
        url = caller.document["userinfo_endpoint"]
        access_token = token["access_token"]
        sent = {"Authorization": f"DPoP {access_token}", "DPoP": proof("GET", url, signed_with, access_token)}
        return caller.session.get(url, headers=sent, withhold_token=True)

    assert userinfo().json()["sub"] == sub
    refused(401, lambda: userinfo(ECKey.generate_key("P-256")))
    return f"{by_hand}; the library has no DPoP: proofs are signed with joserfc"


play_all(
    "authlib",
    "authlib",
    {
        "poll": poll,
        "poll, denied": denied,
        "poll with private_key_jwt": poll_with_assertion,
        "ping": ping,
        "push": lambda: push(clients["push"], "client_secret_basic"),
        "push, denied": push_denied,
        "registration": registration,
        "signed request": signed_request,
        "tls_client_auth": lambda: mutual_tls(clients["pki"]),
        "self_signed_tls_client_auth": lambda: mutual_tls(clients["self_signed"]),
        "certificate-bound tokens": bound_tokens,
        "push with tls_client_auth": lambda: push(clients["push_pki"], "none"),
        "DPoP": dpop,
    },
)
