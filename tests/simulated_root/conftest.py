import http.server
import json
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from confcom.simulation.platform import SimulatedPlatform
from e2e.cluster.certificates import write_all

NAMESPACE = "sgx-here"
NOW = datetime(2026, 11, 24, 12, 30, 15, tzinfo=UTC)


@pytest.fixture(scope="session")
def platform():
    return SimulatedPlatform.create(bytes(range(32)), NOW)


@pytest.fixture
def clock():
    return lambda: NOW


def status(code, reason, message=""):
    """An answer as the API server words it (meta/v1 Status)."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return code, json.dumps(body | {"code": code}).encode()


@pytest.fixture(name="status")
def status_fixture():
    return status


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict
    body: bytes


@dataclass
class FakeApiServer:
    """Keeps objects as the real one does: 201 for a new one, 409 AlreadyExists for another of its name."""

    tmp_path: object
    keys: object
    """The folder with its certificate and its authority's."""
    faults: list = field(default_factory=list)
    """Answers given first: (status, body), or None to hang up."""
    requests: list = field(default_factory=list)
    objects: dict = field(default_factory=dict)
    """By plural and name."""
    made: int = 0

    @property
    def posts(self):
        return [one for one in self.requests if one.method == "POST"]

    def put(self, plural, document):
        """Somebody makes an object, which gets its UID and its time."""
        self.made += 1
        given = {"uid": f"uid-{self.made}", "creationTimestamp": f"2026-11-24T12:30:{self.made:02}Z"}
        metadata = document["metadata"] | given
        self.objects[plural, metadata["name"]] = document | {"metadata": metadata}

    def collect_garbage(self):
        """Remove what has owners, and none of them is there."""
        uids = {one["metadata"]["uid"] for one in self.objects.values()}
        for key, one in list(self.objects.items()):
            owners = {owner["uid"] for owner in one["metadata"].get("ownerReferences", [])}
            if owners and not owners & uids:
                del self.objects[key]

    def answer(self, request):
        self.requests.append(request)
        if self.faults:
            return self.faults.pop(0)
        _, _, _, _, namespace, plural, *names = request.path.partition("?")[0].split("/")
        assert namespace == NAMESPACE
        if request.method == "POST":
            document = json.loads(request.body)
            name = document["metadata"]["name"]
            if (plural, name) in self.objects:
                return status(409, "AlreadyExists", f'{plural} "{name}" already exists')
            self.put(plural, document)
            return 201, json.dumps(self.objects[plural, name]).encode()
        key = (plural, *names)
        if key not in self.objects:
            return status(404, "NotFound", f'{plural} "{names[0]}" not found')
        if request.method == "DELETE":
            del self.objects[key]
            return 200, b"{}"
        return 200, json.dumps(self.objects[key]).encode()

    def pod(self, name="pod"):
        """What the kubelet mounts into a pod."""
        directory = self.tmp_path / name
        directory.mkdir()
        (directory / "token").write_text("token-1\n")
        (directory / "namespace").write_text(NAMESPACE)
        (directory / "ca.crt").write_bytes((self.keys / "ca.crt").read_bytes())
        return directory

    @property
    def environ(self):
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}


@pytest.fixture(scope="session")
def authorities(tmp_path_factory):
    """Folders with the keys of two clusters."""
    folders = [tmp_path_factory.mktemp("keys") / name for name in ("one", "other")]
    for folder in folders:
        write_all(folder, ())
    return folders


@pytest.fixture
def api_server(tmp_path, authorities):
    """A fake API server behind real TLS on a real socket."""
    fake = FakeApiServer(tmp_path, authorities[0])

    class Handler(http.server.BaseHTTPRequestHandler):
        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = fake.answer(Request(self.command, self.path, dict(self.headers), body))
            if answer is not None:
                code, body = answer
                self.send_response(code)
                self.send_header("Location", "https://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = do_DELETE = respond  # noqa: N815

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """A client that does not trust us hangs up; that is its right."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fake.keys / "apiserver.crt", fake.keys / "apiserver.key")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
