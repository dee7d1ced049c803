"""What both Python clients share: the material, decisions, and a notification endpoint."""

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import requests

with open(sys.argv[1], encoding="utf8") as file:
    material = json.load(file)
clients = material["clients"]
issuer = material["issuer"]
sub = material["sub"]
# The parameters of most authentication requests.
asked = {
    "login_hint": material["login_hint"],
    "scope": "openid offline_access",
    "binding_message": "Coffee 4.20",
}


def certificate(client):
    """Returns the value for the parameter `cert` of `requests`: the files of the certificate and the key."""
    return (client["cert"], client["key"]) if "cert" in client else None


def decide(auth_req_id, action="allow"):
    form = {"auth_req_id": auth_req_id, "action": action}
    answer = requests.post(material["decide"], data=form, timeout=10)
    assert answer.status_code == 200, answer.text


def decide_after(seconds, auth_req_id):
    timer = threading.Timer(seconds, decide, [auth_req_id])
    timer.daemon = True
    timer.start()


def refused(status, call, error=None):
    """Asserts that a call is refused. If a library hides the response, only the error code is checked."""
    try:
        answer = call()
    except Exception as problem:
        answer = getattr(problem, "response", None)
        if answer is None:
            assert error is not None and getattr(problem, "error", None) == error, repr(problem)
            return
    assert answer.status_code == status, answer.text
    assert error is None or answer.json()["error"] == error, answer.text


_received = {}
_arrived = threading.Condition()


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with _arrived:
            _received[body["auth_req_id"]] = (self.path, self.headers["Authorization"], body)
            _arrived.notify_all()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def _listen():
    endpoint = material["endpoint"]
    server = ThreadingHTTPServer(("127.0.0.1", endpoint["port"]), _Endpoint)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(endpoint["cert"], endpoint["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def notified(auth_req_id):
    """Returns path, Authorization header and body of the notification about a request."""
    with _arrived:
        assert _arrived.wait_for(lambda: auth_req_id in _received, timeout=10), "no notification within 10 s"
        return _received[auth_req_id]


def play_all(library, distribution, plays):
    """Runs the flows one after the other. If a flow returns a text, the text is a remark about how it was run."""
    print(f"{distribution} {version(distribution)}, Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
    _listen()
    for flow, play in plays.items():
        try:
            how = play()
        except BaseException:
            print(f"{library}: {flow} … NOT ok", flush=True)
            raise
        print(f"{library}: {flow} … ok{'' if how is None else f' ({how})'}", flush=True)


def pause_until(begin, seconds):
    time.sleep(max(0, begin + seconds - time.monotonic()))
