"""A collateral service for tests. It gives right or wrong answers from a table, and records its requests."""

import contextlib
import gzip
import time
from urllib.parse import parse_qs, quote, urlsplit

from confcom.collateral.source import API_PATH
from confcom.simulated_pcs.answers import TDX_API_PATH
from testkit.http_server import begin, send, serving_http


def answers_of(collateral, *, pccs=True):
    """Answers (status, headers, body), keyed by the path below the API's version; TDX's documents by the whole path.

    Like a PCCS, `pccs` gives revocation lists in hex.
    """
    own = TDX_API_PATH if b'"id":"TDX"' in collateral.tcb_info else ""
    chain = {
        name: quote(getattr(collateral, f"{name}_issuer_chain")) for name in ("tcb_info", "qe_identity", "pck_crl")
    }
    crls = [der.hex().encode() if pccs else der for der in (collateral.pck_crl, collateral.root_ca_crl)]
    return {
        f"{own}tcb": (200, {"TCB-Info-Issuer-Chain": chain["tcb_info"]}, collateral.tcb_info),
        f"{own}qe/identity": (200, {"SGX-Enclave-Identity-Issuer-Chain": chain["qe_identity"]}, collateral.qe_identity),
        "pckcrl": (200, {"SGX-PCK-CRL-Issuer-Chain": chain["pck_crl"]}, crls[0]),
        "rootcacrl": (200, {}, crls[1]),
    }


def endless(handler):
    """Answer with a gigabyte, as fast as the client reads it."""
    begin(handler, 1 << 30)
    with contextlib.suppress(OSError):
        for _ in range(1 << 14):
            handler.wfile.write(bytes(1 << 16))


def dripping(handler):
    with contextlib.suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)


def slow_body(handler):
    """Answer with a head, and then a byte of the body at a time."""
    begin(handler, 1000)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def silent(handler):
    """Wait until the client goes away."""
    with contextlib.suppress(OSError):
        handler.connection.recv(1)


def cut_off(handler):
    """End the connection before the body that the head promises."""
    begin(handler, 1000)
    handler.wfile.write(b"{")


def hang_up(handler):
    """End the connection without an answer."""


def header_flood(handler):
    """Answer with headers of 16 MiB."""
    handler.send_response(200)
    with contextlib.suppress(OSError):
        for number in range(1 << 14):
            handler.wfile.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))


def bomb(handler):
    """Answer with a megabyte that decompresses to a gigabyte."""
    body = gzip.compress(bytes(1 << 20)) * (1 << 10)
    begin(handler, len(body), **{"Content-Encoding": "gzip"})
    with contextlib.suppress(OSError):
        handler.wfile.write(body)


class Service:
    """A service whose table may change at run time; an answer is a tuple, a list of tuples, or a function."""

    def __init__(self, answers):
        self.answers = dict(answers)
        self.asked = []
        self.headers = []

    def handle(self, handler):
        parts = urlsplit(handler.path)
        name = parts.path.removeprefix(API_PATH)
        self.asked.append((name, {key: values[0] for key, values in parse_qs(parts.query).items()}))
        self.headers.append(dict(handler.headers))
        answer = self.answers.get(name, (404, {}, b""))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer(handler)
            return
        send(handler, *answer)


@contextlib.contextmanager
def serving(answers, certificate=None, *, port=0):
    """Serve on localhost, with TLS if a certificate file is given; yield the service and its address."""
    service = Service(answers)
    with serving_http(service.handle, certificate, port=port) as service.url:
        yield service, service.url
