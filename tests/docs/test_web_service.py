"""Runs, unchanged, the web services and the service's tests that two pages on verification show."""

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from testkit.collateral_service import answers_of, serving
from testkit.documentation import text_of
from testkit.programs import run_python
from testkit.web_service import FILES, GOOD, KEY, LABEL, attest, client, quote_over, settings, uvicorn, write_service
from testkit.worker_processes import Watched, workers_of

ACCEPTED = (200, {"mr_enclave": bytes(32).hex(), "key": KEY.hex()})
MEGABYTE = 1024 * 1024


@pytest.fixture
def directory(short_dir):
    write_service(short_dir)
    return short_dir


def test_the_program_is_short():
    assert FILES["service.py"].count("\n") <= 60


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
            assert attest(peer, quote) == (403, {"detail": code})
        assert not pccs.asked
        assert attest(peer) == ACCEPTED
        assert attest(peer, key=b"mine") == (403, {"detail": "report-data"})
        challenge = peer.post("/challenge").json()
        assert attest(peer, quote_over(challenge, debug=True), challenge=challenge) == (403, {"detail": "debug"})
        assert attest(peer, challenge=challenge) == (403, {"detail": "challenge"})
        assert attest(peer, bytes(64 * 1024 + 1))[0] == 413
        assert attest(peer, iter([bytes(64 * 1024), b"1"]))[0] == 413
        assert peer.post("/attest", params={"challenge": "no", "key": "00"}).status_code == 422
        for worker in workers_of(program.pid):
            os.kill(worker, signal.SIGKILL)
        assert attest(peer) == ACCEPTED
    page = text_of("docs/how-to/verify-in-a-web-service.md")
    assert all(f"`{code}`" in page for code in ("format", "signatures", "report-data", "debug", "challenge"))


def test_without_the_pccs_nobody_is_blamed(directory):
    with serving({}) as (_, url), uvicorn(directory, url), client(directory) as peer:
        status, document = attest(peer)
        assert (status, set(document)) == (503, {"detail"})
        assert attest(peer, forged()) == (403, {"detail": "signatures"})


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
        if number is signal.SIGKILL:  # uvicorn's own processes stay if only the one that started them is killed
            for service in services:
                os.kill(service, number)
        os.kill(program.pid, number)
        program.stderr.read()
    assert watched.left(20) == []


CALLS = {
    "starlette": """
from starlette.testclient import TestClient
from starlette_service import app
with TestClient(app) as client:
    def post(path, body): return client.post(path, content=body).status_code
    run(post)
""",
    "flask": """
from flask_service import app
def post(path, body): return app.test_client().post(path, data=body).status_code
run(post)
""",
    "django": """
import django
from django.conf import settings
settings.configure(ROOT_URLCONF="django_service", ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_MEMORY_SIZE=65536)
django.setup()
from django.test import Client
def post(path, body): return Client().post(path, body, content_type="application/octet-stream").status_code
run(post)
""",
}
DRIVER = """
from pathlib import Path
import service

def run(post):
    paths = [f"/attest/{letter * 64}/{service.LABEL.hex()}" for letter in "abc"]
    service.challenges |= {letter * 64 for letter in "abc"}
    quote = Path("quote").read_bytes()
    print(post(paths[0], quote), post(paths[1], quote), post(paths[2], bytes(65537)))
"""


@pytest.mark.parametrize(("framework", "too_large"), {"starlette": 413, "flask": 413, "django": 400}.items())
def test_other_frameworks_decide_alike(directory, framework, too_large):
    (directory / "quote").write_bytes(quote_over("a" * 64, key=LABEL))
    with serving(answers_of(GOOD.collateral)) as (_, url):
        done = run_python("-c", DRIVER + CALLS[framework], cwd=directory, env=settings(url))
    assert done.stdout == f"200 403 {too_large}\n", done.stderr


def test_the_pages_tests_pass(tmp_path):
    """The page tests refusals of replay, OutOfDate, debug, another machine or enclave, and old collateral."""
    for name in ("service.py", "policy.toml", "test_service.py", "test_ratls.py"):
        (tmp_path / name).write_text(FILES[name])
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert re.search(r"^10 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
