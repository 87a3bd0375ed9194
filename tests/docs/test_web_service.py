"""Runs, unchanged, the web services and the service's tests that two pages on verification show."""

import contextlib
import hmac
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confcom.testing.collateral_service import serve_collateral
from testkit.collateral_service import answers_of, serving
from testkit.documentation import text_of
from testkit.probe_flood import free_port
from testkit.programs import run_python
from testkit.web_service import (
    ATTESTATION,
    DIFFERENCE,
    FILES,
    GOOD,
    KEY,
    attest,
    client,
    for_both,
    quote_over,
    settings,
    td_quote_over,
    uvicorn,
    write_service,
)
from testkit.worker_processes import Watched, workers_of

ACCEPTED = (200, b"what this enclave may know")
OTHER_KEY = X25519PrivateKey.generate().public_key().public_bytes_raw()
MEGABYTE = 1024 * 1024


@pytest.fixture
def directory(short_dir):
    write_service(short_dir)
    return short_dir


def test_the_programs_are_short():
    assert max(FILES[name].count("\n") for name in ("decide.py", "service.py")) <= 60
    assert max(FILES[f"{name}_service.py"].count("\n") for name in ("starlette", "flask", "django")) <= 25


def changed(challenge):
    return ("1" if challenge[0] == "0" else "0") + challenge[1:]


def forged():
    quote = bytearray(GOOD.quote)
    quote[500] ^= 1
    return bytes(quote)


def test_each_request_has_the_answer_of_the_table(directory):
    with (
        serving(answers_of(GOOD.collateral)) as (pccs, url),
        uvicorn(directory, url) as program,
        client(directory) as peer,
    ):
        for quote, code in {
            b"": "format",
            b"junk": "format",
            bytes(3000): "format",
            forged(): "signatures",
        }.items():
            assert attest(peer, quote) == (403, {"code": code})
        assert not pccs.asked
        assert attest(peer) == ACCEPTED
        assert attest(peer, key=OTHER_KEY) == (403, {"code": "report-data"})
        challenge = peer.post("/challenge").json()
        assert attest(peer, quote_over(challenge, debug=True), challenge=challenge) == (403, {"code": "debug"})
        assert attest(peer, challenge=challenge) == ACCEPTED
        for stale in (changed(challenge), challenge[:-2], "00" * 24):
            assert attest(peer, challenge=stale) == (403, {"code": "challenge"})
        assert attest(peer, bytes(64 * 1024 + 1))[0] == 413
        assert attest(peer, iter([bytes(64 * 1024), b"1"]))[0] == 413
        for asked in ({"challenge": "no", "key": KEY.hex()}, {"challenge": challenge, "key": "00"}, {}):
            assert peer.post("/attest", params=asked).status_code == 422
        for worker in workers_of(program.pid):
            os.kill(worker, signal.SIGKILL)
        assert attest(peer) == ACCEPTED
    page = text_of("docs/how-to/verify-in-a-web-service.md")
    assert all(f"`{code}`" in page for code in ("format", "signatures", "report-data", "debug", "challenge"))


TDS = (
    (ACCEPTED, {}),
    ((403, {"code": "images"}), {"mr_td": bytes(48)}),
    ((403, {"code": "images"}), {"rtmr1": bytes(48)}),
    ((403, {"code": "service-td"}), {"service_td": True}),
    (ACCEPTED, {"rtmr3": b"r" * 48}),
)


def test_a_service_for_enclaves_and_tds(directory):
    (directory / "decide.py").write_text(for_both(FILES["decide.py"]))
    assert len(re.findall(r"^\+", DIFFERENCE, re.MULTILINE)) <= 10
    with serve_collateral(ATTESTATION) as source, uvicorn(directory, source.url), client(directory) as peer:
        assert attest(peer) == ACCEPTED
        for answer, defect in TDS:
            challenge = peer.post("/challenge").json()
            assert attest(peer, td_quote_over(challenge, **defect), challenge=challenge) == answer
        for code, quote in {"format": b"junk", "report-data": GOOD.quote}.items():
            assert attest(peer, quote) == (403, {"code": code})


def test_without_the_pccs_nobody_is_blamed(directory):
    with serving({}) as (_, url), uvicorn(directory, url), client(directory) as peer:
        status, document = attest(peer)
        assert (status, set(document)) == (503, {"code"})
        assert attest(peer, forged()) == (403, {"code": "signatures"})


def peak_memory(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


@pytest.mark.parametrize("length", [f"Content-Length: {400 * MEGABYTE}", "Transfer-Encoding: chunked"])
def test_a_body_of_400_mb_costs_little_memory(directory, length):
    with uvicorn(directory, "http://127.0.0.1:9") as program, client(directory) as peer:
        assert attest(peer, b"junk")[0] == 403
        before = peak_memory(program.pid)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(50)
            connection.connect(str(directory / "socket"))
            connection.sendall(f"POST /attest?challenge=00&key=00 HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n".encode())
            part = bytes(MEGABYTE)
            if "chunked" in length:
                part = b"100000\r\n" + part + b"\r\n"
            with contextlib.suppress(ConnectionError):  # the service may close the connection
                for _ in range(400):
                    connection.sendall(part)
        assert attest(peer, bytes(64 * 1024 + 1))[0] == 413
        assert peak_memory(program.pid) - before < 10 * MEGABYTE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_is_left_under_uvicorn_with_two_workers(directory, number):
    with uvicorn(directory, "http://127.0.0.1:9", "--workers", "2") as program:
        services = [int(pid) for pid in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()]
        workers = [worker for service in services for worker in workers_of(service)]
        assert len(workers) == 4
        watched = Watched(workers)
        os.kill(program.pid, number)  # first, since it replaces processes that end
        if number is signal.SIGKILL:  # its processes stay if only the one that started them is killed
            for service in services:
                os.kill(service, number)
        program.stderr.read()
    assert watched.left(20) == []


CALLS = {
    "starlette": """
from starlette.testclient import TestClient
from starlette_service import app
with TestClient(app) as client:
    def post(path, body=b""):
        answer = client.post(path, content=body)
        return answer.status_code, answer.content
    run(post)
""",
    "flask": """
from flask_service import app
def post(path, body=b""):
    answer = app.test_client().post(path, data=body)
    return answer.status_code, answer.data
chunked = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
header = {"Transfer-Encoding": "chunked"}
body = io.BytesIO(bytes(99999))
answer = app.test_client().post("/attest", headers=header, input_stream=body, environ_overrides=chunked)
assert answer.status_code == 411
run(post)
""",
    "django": """
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="django_service", ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_MEMORY_SIZE=65536)
django.setup()
from django.test import Client
def post(path, body=b""):
    answer = Client().post(path, body, content_type="application/octet-stream")
    return answer.status_code, answer.content
run(post)
""",
}
DRIVER = """
import io, json
from pathlib import Path

challenge, key, quote = Path("challenge").read_text(), Path("key").read_text(), Path("quote").read_bytes()

def run(post):
    def attest(quote, challenge):
        status, content = post(f"/attest?challenge={challenge}&key={key}", quote)
        return status, *(json.loads(content) if content.startswith(b"{") else "?")

    assert len(bytes.fromhex(json.loads(post("/challenge")[1]))) == 56
    print(*(attest(*asked) for asked in [
        (quote, challenge), (b"junk", challenge), (quote, challenge[2:]), (quote, "no"), (bytes(65537), challenge)
    ]))
"""


@pytest.mark.parametrize(("framework", "too_large"), {"starlette": 413, "flask": 413, "django": 400}.items())
def test_other_frameworks_decide_alike(directory, framework, too_large):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        environ = settings(url)
        body = int(time.time()).to_bytes(8) + bytes(16)
        challenge = (body + hmac.digest(bytes.fromhex(environ["CHALLENGE_KEY"]), body, "sha256")).hex()
        (directory / "challenge").write_text(challenge)
        (directory / "key").write_text(KEY.hex())
        (directory / "quote").write_bytes(quote_over(challenge))
        done = run_python("-c", DRIVER + CALLS[framework], cwd=directory, env=environ)
    answers = [(200, "secret"), (403, "code"), (403, "code"), (422, "code"), (too_large, "?")]
    assert done.stdout.strip() == " ".join(map(str, answers)), done.stderr


def test_the_pages_tests_pass(tmp_path):
    """The page tests refusals of replay, OutOfDate, debug, another machine or enclave, and old collateral."""
    tests = ("test_service.py", "test_ratls.py", "test_source.py", "test_td_policy.py")
    for name in ("decide.py", "service.py", "policy.toml", "td-policy.toml", *tests):
        (tmp_path / name).write_text(FILES[name])
    environ = {**os.environ, "CHALLENGE_KEY": "00"}
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, env=environ)
    assert re.search(r"^14 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_the_program_that_tries_the_service(tmp_path):
    for name in ("decide.py", "service.py", "policy.toml"):
        (tmp_path / name).write_text(FILES[name])
    (tmp_path / "try_it.py").write_text(FILES["try_it.py"].replace("8765", str(free_port())))
    done = run_python("try_it.py", cwd=tmp_path)
    assert "b'what this enclave may know'" in done.stdout, done.stderr
