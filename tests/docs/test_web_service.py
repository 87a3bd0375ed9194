"""The page on verifying in a web service: its service and its tests, as they stand."""

import asyncio
import base64
import hashlib
import re
import runpy
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.testing import Attestation, SimulatedEnclave
from testkit.collateral_service import answers_of, serving
from testkit.programs import run_python

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "verify-in-a-web-service.md"
SERVICE, TESTS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
ATTESTATION = Attestation.create()
GOOD = ATTESTATION.quote(b"c")
POLICY = f"""
allow_simulated = true
platforms = ["{GOOD.platform_id.hex()}"]
max_collateral_age = "17d"
[[identities]]
mr_enclave = "{ATTESTATION.enclave.mr_enclave.hex()}"
"""
OTHER = SimulatedEnclave.from_name("another")
REFUSED = {
    "another challenge": ({}, {}, "report-data"),
    "a used challenge": ({}, {}, "challenge"),
    "out of date": ({"tcb": "OutOfDate"}, {}, "tcb-status"),
    "debug": ({"debug": True}, {}, "debug"),
    "another machine": ({"platform": "another"}, {}, "platform-id"),
    "another enclave": ({"enclave": OTHER}, {}, "identities"),
    "expired collateral": ({"expired": True}, {}, "collateral"),
    "old collateral": ({}, {"max_collateral_age": "0m"}, "collateral-age"),
}


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Starts the page's service beside a PCCS with the collateral of some evidence; returns a way to post to it."""
    monkeypatch.chdir(tmp_path)
    Path("root.pem").write_bytes(ATTESTATION.root.certificate.public_bytes(Encoding.PEM))
    Path("service.py").write_text(SERVICE)
    started = []

    def start(url, **policy):
        text = POLICY
        for name, value in policy.items():
            text = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
        Path("policy.toml").write_text(text)
        monkeypatch.setenv("ROOT_FILE", "root.pem")
        monkeypatch.setenv("PCCS_URL", url)
        names = runpy.run_path("service.py")
        started.append(names["pool"])

        def post(path, document=None):
            async def ask():
                transport = httpx2.ASGITransport(app=names["app"])
                async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
                    return await client.post(path, json=document)

            return asyncio.run(ask())

        return post

    yield start
    for pool in started:
        pool.shutdown()


KEY = b"the enclave's public key"


def report_data(challenge, key=KEY):
    return hashlib.sha512(b"example.com attestation, version 1" + bytes.fromhex(challenge) + key).digest()


def attest(post, evidence, challenge, key=KEY):
    quote = base64.b64encode(evidence.quote).decode()
    return post("/attest", {"challenge": challenge, "key": key.hex(), "quote": quote})


def test_a_good_quote_is_accepted_once(service):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        post = service(url)
        challenge = post("/challenge").json()["challenge"]
        evidence = ATTESTATION.quote(report_data(challenge))
        done = attest(post, evidence, challenge)
        accepted = {"mr_enclave": ATTESTATION.enclave.mr_enclave.hex(), "key": KEY.hex()}
        assert (done.status_code, done.json()) == (200, accepted)
        again = attest(post, evidence, challenge)
        assert (again.status_code, again.json()["detail"]["code"]) == (403, "challenge")


@pytest.mark.parametrize(("defect", "policy", "code"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses(service, defect, policy, code):
    with serving(answers_of(ATTESTATION.quote(b"c", **defect).collateral)) as (_, url):
        post = service(url, **policy)
        challenge = post("/challenge").json()["challenge"]
        asked = bytes(64) if code == "report-data" else report_data(challenge)
        used = "00" * 32 if code == "challenge" else challenge
        done = attest(post, ATTESTATION.quote(asked, **defect), used)
    assert (done.status_code, done.json()["detail"]["code"]) == (403, code), done.text


def forged():
    quote = bytearray(GOOD.quote)
    quote[500] ^= 1
    return quote.hex()


@pytest.mark.parametrize("quote", ["", "junk", "00" * 3000, forged()], ids=["empty", "junk", "zeros", "forged"])
def test_what_is_no_quote_makes_nobody_fetch(service, quote):
    with serving(answers_of(GOOD.collateral)) as (pccs, url):
        post = service(url)
        challenge = post("/challenge").json()["challenge"]
        assert post("/attest", {"challenge": challenge, "key": "", "quote": quote}).status_code == 403
        assert not pccs.asked


def test_another_peers_quote_is_of_another_key(service):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        post = service(url)
        challenge = post("/challenge").json()["challenge"]
        done = attest(post, ATTESTATION.quote(report_data(challenge)), challenge, key=b"mine")
        assert (done.status_code, done.json()["detail"]["code"]) == (403, "report-data")


def test_without_the_pccs_nobody_is_blamed(service):
    with serving({}) as (_, url):
        post = service(url)
    challenge = post("/challenge").json()["challenge"]
    assert attest(post, ATTESTATION.quote(report_data(challenge)), challenge).status_code == 503


def test_the_pages_tests_pass(tmp_path):
    (tmp_path / "test_service.py").write_text(TESTS)
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
