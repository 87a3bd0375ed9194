"""The web service of the page on verifying in a web service, run by uvicorn; and its peers' requests."""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.testing import Attestation, SimulatedEnclave
from testkit.documentation import files

FILES = files("python") | files("toml")
DIFFERENCE = files("diff")["decide.diff"]
LABEL = re.search(r'^LABEL, SECRET = b"(.*?)"', FILES["decide.py"], re.MULTILINE)[1].encode()
SIGNER = re.search(r'mr_signer = "(\w+)"', FILES["policy.toml"])[1]
ATTESTATION = Attestation.create()
ENCLAVE = SimulatedEnclave(mr_enclave=bytes(32), mr_signer=bytes.fromhex(SIGNER), isv_prod_id=1, isv_svn=3)
TD = {name: bytes.fromhex(value) for name, value in tomllib.loads(FILES["td-policy.toml"])["images"][0].items()}
GOOD = ATTESTATION.quote(b"c", enclave=ENCLAVE)
PRIVATE_KEY = X25519PrivateKey.generate()
KEY = PRIVATE_KEY.public_key().public_bytes_raw()
SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)


def write_service(directory):
    """Write the page's programs, the policy with simulated platforms, and the root."""
    for name, content in FILES.items():
        (directory / name).write_text(content)
    for name in ("policy.toml", "td-policy.toml"):
        (directory / name).write_text(f"allow_simulated = true\n{FILES[name]}")
    (directory / "root.pem").write_bytes(ATTESTATION.root.certificate.public_bytes(Encoding.PEM))


def for_both(program):
    """Change `decide.py` as the page's difference says, so that it takes quotes of enclaves and of TDs."""
    for hunk in DIFFERENCE.strip().split("\n\n"):
        lines = [(line[0], line[1:] + "\n") for line in hunk.splitlines()]
        old, new = ("".join(text for sign, text in lines if sign != other) for other in "+-")
        assert program.count(old) == 1, old
        program = program.replace(old, new)
    return program


def settings(url):
    files = {"ROOT_FILE": "root.pem", "CACHE_DIR": "cache"}
    return {**os.environ, **files, "CHALLENGE_KEY": "c0ffee" * 10, "PCCS_URL": url}


def quote_over(challenge, key=KEY, **defect):
    report_data = hashlib.sha512(LABEL + bytes.fromhex(challenge) + key).digest()
    return ATTESTATION.quote(report_data, **({"enclave": ENCLAVE} | defect)).quote


def td_quote_over(challenge, **defect):
    """A quote of a TD that fits the page's policy, except for its defect."""
    report_data = hashlib.sha512(LABEL + bytes.fromhex(challenge) + KEY).digest()
    return ATTESTATION.td_quote(report_data, **(TD | defect)).quote


@contextlib.contextmanager
def uvicorn(directory, url, *options):
    """Run the service on a unix socket; yield its process when it serves."""
    command = [sys.executable, "-m", "uvicorn", "service:app", "--uds", "socket", *options]
    program = subprocess.Popen(
        command, cwd=directory, env=settings(url), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with program:
        try:
            awaited = 2 + options.count("--workers")  # each process starts, and then or before the socket listens
            while awaited:
                line = program.stderr.readline()
                assert line, "uvicorn ended"
                awaited -= any(text in line for text in ("Application startup complete", "Uvicorn running on"))
            yield program
        finally:
            program.terminate()


def client(directory):
    transport = httpx2.HTTPTransport(uds=str(Path(directory) / "socket"))
    return httpx2.Client(transport=transport, base_url="http://service", timeout=50)


def attest(peer, quote=None, *, key=KEY, challenge=None):
    """Ask as an enclave does; status, and the opened secret or the JSON."""
    challenge = challenge or peer.post("/challenge").json()
    content = quote_over(challenge) if quote is None else quote
    answer = peer.post("/attest", params={"challenge": challenge, "key": key.hex()}, content=content)
    if answer.headers["Content-Type"] != "application/json":
        return answer.status_code, answer.text
    document = answer.json()
    if "secret" in document:
        return answer.status_code, SUITE.decrypt(bytes.fromhex(document["secret"]), PRIVATE_KEY, LABEL)
    return answer.status_code, document
