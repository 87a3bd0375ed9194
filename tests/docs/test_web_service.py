"""Runs, unchanged, the web service and the service's tests that two pages on verification show."""

import asyncio
import base64
import hashlib
import os
import re
import runpy
import signal
import time
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.testing import Attestation, SimulatedEnclave
from testkit.collateral_service import answers_of, serving
from testkit.documentation import files
from testkit.programs import run_python

FILES = files("python") | files("toml")
ATTESTATION = Attestation.create()
SIGNER = re.search(r'mr_signer = "(\w+)"', FILES["policy.toml"])[1]
ENCLAVE = SimulatedEnclave(mr_enclave=bytes(32), mr_signer=bytes.fromhex(SIGNER), isv_prod_id=1, isv_svn=3)
GOOD = ATTESTATION.quote(b"c", enclave=ENCLAVE)
KEY = b"the enclave's public key"


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Starts the page's service with a PCCS's URL; returns the module's names and a function that posts."""
    monkeypatch.chdir(tmp_path)
    Path("root.pem").write_bytes(ATTESTATION.root.certificate.public_bytes(Encoding.PEM))
    Path("service.py").write_text(FILES["service.py"])
    Path("policy.toml").write_text(f"allow_simulated = true\n{FILES['policy.toml']}")
    monkeypatch.setenv("ROOT_FILE", "root.pem")
    started = []

    def start(url):
        monkeypatch.setenv("PCCS_URL", url)
        names = runpy.run_path("service.py")["decide"].__globals__
        started.append(names)

        def post(path, document=None):
            async def ask():
                transport = httpx2.ASGITransport(app=names["app"])
                async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
                    return await client.post(path, json=document)

            return asyncio.run(ask())

        return names, post

    yield start
    for names in started:
        names["pool"].shutdown()


def attest(post, *, key=KEY):
    challenge = post("/challenge").json()["challenge"]
    report_data = hashlib.sha512(b"example.com attestation, version 1" + bytes.fromhex(challenge) + KEY).digest()
    quote = base64.b64encode(ATTESTATION.quote(report_data, enclave=ENCLAVE).quote).decode()
    return post("/attest", {"challenge": challenge, "key": key.hex(), "quote": quote})


def test_a_good_quote_is_accepted_also_after_a_worker_ended(service):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        names, post = service(url)
        accepted = {"mr_enclave": bytes(32).hex(), "key": KEY.hex()}
        assert attest(post).json() == accepted
        os.kill(next(iter(names["pool"]._processes)), signal.SIGKILL)
        done = attest(post)
        assert (done.status_code, done.json()) == (200, accepted)


def test_a_slow_verification_ends_that_of_nobody_else(service):
    names, _ = service("http://127.0.0.1:9")

    async def both():
        for _ in range(6):
            names["pool"].submit(time.sleep, 0.5)
        tasks = []
        for names["VERIFY_SECONDS"] in (0.1, 60):
            tasks.append(asyncio.create_task(names["decide"](GOOD.quote, bytes(64), GOOD.collateral)))
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    assert {str(verdict) for verdict in asyncio.run(both())} == {"authentic-not-authorised: report-data"}


def test_another_peers_quote_is_of_another_key(service):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        done = attest(service(url)[1], key=b"mine")
        assert (done.status_code, done.json()["detail"]["code"]) == (403, "report-data")


def test_without_the_pccs_nobody_is_blamed(service):
    with serving({}) as (_, url):
        _, post = service(url)
    assert attest(post).status_code == 503


def forged():
    quote = bytearray(GOOD.quote)
    quote[500] ^= 1
    return quote.hex()


@pytest.mark.parametrize("quote", ["", "junk", "00" * 3000, forged()], ids=["empty", "junk", "zeros", "forged"])
def test_what_is_no_quote_makes_nobody_fetch(service, quote):
    with serving(answers_of(GOOD.collateral)) as (pccs, url):
        _, post = service(url)
        challenge = post("/challenge").json()["challenge"]
        assert post("/attest", {"challenge": challenge, "key": "", "quote": quote}).status_code == 403
        assert not pccs.asked


def test_the_pages_tests_pass(tmp_path):
    """The page tests refusals of replay, OutOfDate, debug, another machine or enclave, and old collateral."""
    for name in ("service.py", "policy.toml", "test_service.py", "test_ratls.py"):
        (tmp_path / name).write_text(FILES[name])
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert re.search(r"^10 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr
