"""A client that uses requests_oauth2client: it has CIBA with a polling job, signed requests, and DPoP with nonces."""

import secrets
import time
from types import SimpleNamespace

import requests
from jwskate import Jwk
from requests_oauth2client import (
    BackChannelAuthenticationPollingJob,
    BearerToken,
    ClientSecretBasic,
    ClientSecretPost,
    DPoPKey,
    OAuth2Client,
    PrivateKeyJwt,
    PublicApp,
)

from stage import asked, certificate, clients, decide, decide_after, issuer, material, notified, play_all, refused, sub


def session_of(client):
    session = requests.Session()
    session.cert = certificate(client)
    return session


def configured(client, auth, shows=None, **more):
    """Returns a client that is configured by discovery, except the CIBA endpoint, which the library does not read."""
    session = session_of(client if shows is None else shows)
    document = session.get(f"{issuer}/.well-known/openid-configuration").json()
    return OAuth2Client.from_discovery_endpoint(
        issuer=issuer,
        auth=auth,
        session=session,
        backchannel_authentication_endpoint=document["backchannel_authentication_endpoint"],
        id_token_signed_response_alg=client["id_token_signed_response_alg"],
        **more,
    )


def basic(client):
    return ClientSecretBasic(client["client_id"], client["client_secret"])


def private_key(client):
    return PrivateKeyJwt(client["client_id"], Jwk(client["jwk"]))


def verified(client, token):
    """Verifies an ID token with the function for the authorization code flow, because the library has none for CIBA."""
    expected = SimpleNamespace(issuer=issuer, nonce=None, acr_values=None, code=None, state=None, max_age=None)
    # The library fails to build its result for a DPoP token. So the ID token is validated together with a bearer token.
    bearer = BearerToken(token.access_token, id_token=token.id_token)
    validated = bearer.validate_id_token(client, expected)
    assert validated.id_token.sub == sub
    return validated.id_token


def wait(client, response):
    """Runs the library's polling job, which waits for an interval before each poll."""
    job = BackChannelAuthenticationPollingJob(client, response)
    token = None
    while token is None:
        token = job()
    assert job.interval == response.interval, "the client was told to slow down"
    verified(client, token)
    return token


def collect(client, **parameters):
    response = client.backchannel_authentication_request(**{**asked, **parameters})
    decide(response.auth_req_id)
    token = wait(client, response)
    assert client.userinfo(token)["sub"] == sub
    return token


def refresh(client, token):
    refreshed = client.refresh_token(token)
    verified(client, refreshed)
    assert client.userinfo(refreshed)["sub"] == sub


def poll():
    client = configured(clients["poll"], basic(clients["poll"]))
    response = client.backchannel_authentication_request(**asked)
    assert response.interval == 1
    decide_after(3.5, response.auth_req_id)
    token = wait(client, response)
    refresh(client, token)
    client.revoke_access_token(token)
    assert client.introspect_token(token.access_token)["active"] is False


def denied():
    client = configured(clients["poll"], basic(clients["poll"]))
    response = client.backchannel_authentication_request(**asked)
    decide(response.auth_req_id, "deny")
    refused(400, lambda: client.ciba(response), "access_denied")


def poll_with_assertion():
    client = configured(clients["assertion"], private_key(clients["assertion"]))
    refresh(client, collect(client))


def ping():
    own = clients["ping"]
    client = configured(own, ClientSecretPost(own["client_id"], own["client_secret"]))
    token = secrets.token_urlsafe(24)
    response = client.backchannel_authentication_request(**asked, client_notification_token=token)
    decide(response.auth_req_id)
    assert notified(response.auth_req_id) == ("/ping", f"Bearer {token}", {"auth_req_id": response.auth_req_id})
    verified(client, client.ciba(response))
    return "the endpoint is of http.server"


def push(own, auth):
    client = configured(own, auth)
    token = secrets.token_urlsafe(24)
    response = client.backchannel_authentication_request(**asked, client_notification_token=token)
    decide(response.auth_req_id)
    path, authorization, body = notified(response.auth_req_id)
    assert (path, authorization) == ("/push", f"Bearer {token}")
    # The body of a push is a token response with one more member.
    pushed = BearerToken(**body)
    id_token = verified(client, pushed)
    assert id_token.get_claim("urn:openid:params:jwt:claim:auth_req_id") == response.auth_req_id
    assert id_token.get_claim("at_hash") is not None
    assert client.userinfo(pushed)["sub"] == sub
    return "the endpoint is of http.server; the library verifies the body as a token response"


def push_denied():
    client = configured(clients["push"], basic(clients["push"]))
    token = secrets.token_urlsafe(24)
    response = client.backchannel_authentication_request(**asked, client_notification_token=token)
    decide(response.auth_req_id, "deny")
    assert notified(response.auth_req_id)[2]["error"] == "access_denied"
    return "the endpoint is of http.server"


def registration():
    session = session_of({})
    document = session.get(f"{issuer}/.well-known/openid-configuration").json()
    metadata = {
        "grant_types": ["urn:openid:params:grant-type:ciba", "refresh_token"],
        "backchannel_token_delivery_mode": "poll",
        "token_endpoint_auth_method": "client_secret_post",
    }
    answer = session.post(document["registration_endpoint"], json=metadata)
    assert answer.status_code == 201, answer.text
    own = answer.json()
    client = configured(own, ClientSecretPost(own["client_id"], own["client_secret"]))
    collect(client)
    token = BearerToken(own["registration_access_token"])
    assert session.get(own["registration_client_uri"], auth=token).status_code == 200
    assert session.delete(own["registration_client_uri"], auth=token).status_code == 204
    refused(401, lambda: client.backchannel_authentication_request(**asked))
    return "the library has no registration: sent with requests"


def signed_request():
    own = clients["signed"]
    client = configured(own, private_key(own))
    now = int(time.time())
    # The library signs the parameters that it gets, and writes null for all others.
    claims = {"iss": own["client_id"], "aud": issuer, "iat": now, "nbf": now, "exp": now + 60}
    token = collect(client, private_jwk=Jwk(own["jwk"]), jti=secrets.token_urlsafe(16), **claims)
    refresh(client, token)
    refused(400, lambda: client.backchannel_authentication_request(**asked), "invalid_request")
    return "iss, aud, jti and times are added by hand"


def mutual_tls(own):
    # The library has no method for mutual TLS, so the client sends client_id like a public client.
    auth = PublicApp(own["client_id"])
    client = configured(own, auth)
    token = collect(client)
    refresh(client, token)
    for shows in ({}, clients["bound"]):
        other = configured(own, auth, shows)
        refused(401, lambda: other.userinfo(token))
        refused(401, lambda: other.backchannel_authentication_request(**asked))
    return "as a public client, on a session with the certificate"


def bound_tokens():
    own = clients["bound"]
    client = configured(own, basic(own))
    token = collect(client)
    refresh(client, token)
    assert client.introspect_token(token.access_token)["cnf"]["x5t#S256"]
    for shows in ({}, clients["self_signed"]):
        refused(401, lambda: configured(own, basic(own), shows).userinfo(token))


def dpop():
    own = clients["dpop"]
    client = configured(own, private_key(own), dpop_bound_access_tokens=True)
    # The server demands a nonce, and the library itself repeats the calls with the nonce.
    token = collect(client)
    assert token.token_type == "DPoP"
    refresh(client, token)
    stolen = token.__class__(token.access_token, token_type="DPoP", _dpop_key=DPoPKey.generate())
    refused(401, lambda: client.userinfo(stolen))


play_all(
    "requests_oauth2client",
    "requests_oauth2client",
    {
        "poll": poll,
        "poll, denied": denied,
        "poll with private_key_jwt": poll_with_assertion,
        "ping": ping,
        "push": lambda: push(clients["push"], basic(clients["push"])),
        "push, denied": push_denied,
        "registration": registration,
        "signed request": signed_request,
        "tls_client_auth": lambda: mutual_tls(clients["pki"]),
        "self_signed_tls_client_auth": lambda: mutual_tls(clients["self_signed"]),
        "certificate-bound tokens": bound_tokens,
        "push with tls_client_auth": lambda: push(clients["push_pki"], PublicApp("push_pki")),
        "DPoP": dpop,
    },
)
