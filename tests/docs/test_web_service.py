"""The page on verifying in a web service: its service and its tests, as they stand."""

import asyncio
import base64
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


def attest(post, evidence, challenge):
    return post("/attest", {"challenge": challenge, "quote": base64.b64encode(evidence.quote).decode()})


def test_a_good_quote_is_accepted_once(service):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        post = service(url)
        challenge = post("/challenge").json()["challenge"]
        evidence = ATTESTATION.quote(bytes.fromhex(challenge))
        done = attest(post, evidence, challenge)
        assert (done.status_code, done.json()) == (200, {"mr_enclave": ATTESTATION.enclave.mr_enclave.hex()})
        again = attest(post, evidence, challenge)
        assert (again.status_code, again.json()["detail"]["code"]) == (403, "challenge")


@pytest.mark.parametrize(("defect", "policy", "code"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses(service, defect, policy, code):
    with serving(answers_of(ATTESTATION.quote(b"c", **defect).collateral)) as (_, url):
        post = service(url, **policy)
        challenge = post("/challenge").json()["challenge"]
        asked = bytes(32) if code == "report-data" else bytes.fromhex(challenge)
        used = "00" * 32 if code == "challenge" else challenge
        done = attest(post, ATTESTATION.quote(asked, **defect), used)
    assert (done.status_code, done.json()["detail"]["code"]) == (403, code), done.text


@pytest.mark.parametrize("quote", ["", "junk", "00" * 3000, "0" * 200_000])
def test_what_is_no_quote_is_refused(service, quote):
    with serving(answers_of(GOOD.collateral)) as (_, url):
        post = service(url)
        done = post("/attest", {"challenge": post("/challenge").json()["challenge"], "quote": quote})
    assert done.status_code == 403


def test_the_pages_tests_pass(tmp_path):
    (tmp_path / "test_service.py").write_text(TESTS)
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
