"""Sources over TLS that fail, misbehave or lie, each with an empty cache, and with a cache whose set is due."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from confcom.collateral import FetchError, Source
from confcom.simulation.platform import SimulatedPlatform
from testkit.certificates import own_authority
from testkit.collateral_caches import EVIDENCE, HALF, HOUR, LAB, Clock, cache_of, settle
from testkit.collateral_service import (
    answers_of,
    bomb,
    cut_off,
    dripping,
    endless,
    hang_up,
    header_flood,
    serving,
    silent,
    slow_body,
)
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED

GOOD = answers_of(EVIDENCE.collateral)
STRANGERS = LAB.evidence(platform=LAB.stranger).collateral
PROCESSORS = LAB.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca="PROCESSOR")).collateral
ROOT, PCK_CA, SIGNER = LAB.platform.pki.root, LAB.platform.pki.pck_ca, LAB.platform.pki.tcb_signer
PCK_CHAIN = "SGX-PCK-CRL-Issuer-Chain"
TRIED_TWICE = {"source-failed", "source-protocol", "source-content"}
"""Codes of faults that a second request may not meet."""
SHORT = 3
"""Seconds for sources that take all the time that they are given."""


def body(path, content):
    return {path: (*GOOD[path][:2], content)}


def redirect(location):
    return Hostile({"tcb": (302, {"Location": location}, b"")}, "source-redirect")


def collateral(**parts):
    return answers_of(replace(EVIDENCE.collateral, **parts))


def edited(part, *, sign_again=True, **members):
    edit = lambda document: document.update(members)  # noqa: E731
    return answers_of(LAB.edit_json(EVIDENCE, part, edit, sign_again=sign_again).collateral)


def revoking(*certificates):
    return LAB.crl(ROOT, *(one.certificate for one in certificates))


TCB_INFO = EVIDENCE.collateral.tcb_info
REFORMATTED = json.dumps(json.loads(TCB_INFO), indent=1).encode()
UNMARKED, UNNAMED = (
    answers_of(LAB.edit_json(EVIDENCE, "tcb_info", lambda document, name=name: document.pop(name)).collateral)
    for name in ("simulation", "fmspc")
)


@dataclass(frozen=True)
class Hostile:
    answers: dict
    """What differs from a good source."""
    code: str = ""
    """Empty if the cache gets the set in spite of it."""
    host: str = "127.0.0.1"
    days: int = 0
    unknown: bool = False
    discards: bool = False

    @property
    def seconds(self):
        return SHORT if self.code == "source-silent" else 30


SOURCES = {
    "a gigabyte": Hostile({"tcb": endless}, "source-too-large"),
    "a head by drops": Hostile({"tcb": dripping}, "source-silent"),
    "a body by drops": Hostile({"tcb": slow_body}, "source-silent"),
    "silence": Hostile({"tcb": silent}, "source-silent"),
    "headers without end": Hostile({"tcb": header_flood}, "source-headers"),
    "a bomb": Hostile({"qe/identity": bomb}, "source-compressed"),
    "a redirect to another host": redirect("https://elsewhere.test/tcb"),
    "a redirect to no URL": redirect("http://[::1"),
    "a redirect to itself": redirect("/tcb"),
    "an unknown authority": Hostile({}, "source-tls-authority", unknown=True),
    "another host's certificate": Hostile({}, "source-tls-name", host="127.0.0.2"),
    "an expired certificate": Hostile({}, "source-tls-dates", days=-9),
    "a certificate of the future": Hostile({}, "source-tls-dates", days=9),
    "500": Hostile({"tcb": (500, {}, b"")}, "source-failed"),
    "500, then 200": Hostile({"tcb": [(500, {}, b""), GOOD["tcb"]]}),
    "no answer, then 200": Hostile({"tcb": [hang_up, GOOD["tcb"]]}),
    "half an answer, then 200": Hostile({"tcb": [cut_off, GOOD["tcb"]]}),
    "400": Hostile({"tcb": (400, {}, b"")}, "source-refused"),
    "404": Hostile({"tcb": (404, {}, b"")}, "source-unknown-platform"),
    "429": Hostile({"tcb": (429, {"Retry-After": "60"}, b"")}, "source-busy"),
    "401": Hostile({"tcb": (401, {}, b"")}, "source-key"),
    "403": Hostile({"tcb": (403, {}, b"")}, "source-key"),
    "410": Hostile({"tcb": (410, {}, b"")}, "source-unknown-platform"),
    "no answer": Hostile({"tcb": hang_up}, "source-protocol"),
    "a connection that ends early": Hostile({"pckcrl": cut_off}, "source-protocol"),
    "half a document": Hostile(body("tcb", TCB_INFO[: len(TCB_INFO) // 2]), "source-content"),
    "a page for people": Hostile(body("tcb", b"<html>Please log in</html>"), "source-content"),
    "an unsigned document": Hostile(body("tcb", b'{"tcbInfo":{}}'), "source-content"),
    "a document formatted anew": Hostile(body("tcb", REFORMATTED), "source-content"),
    "a document formatted anew, once": Hostile({"tcb": [*body("tcb", REFORMATTED).values(), GOOD["tcb"]]}),
    "no chain": Hostile({"tcb": (200, {}, TCB_INFO)}, "source-content"),
    "a long chain": Hostile({"tcb": (200, {"TCB-Info-Issuer-Chain": "x" * 20_000}, TCB_INFO)}, "source-content"),
    "a chain that is no PEM": Hostile({"pckcrl": (200, {PCK_CHAIN: "junk"}, GOOD["pckcrl"][2])}, "source-content"),
    "no FMSPC": Hostile(UNNAMED, "source-content"),
    "no revocation list": Hostile(body("rootcacrl", b"junk"), "source-content"),
    **{
        f"{len(content)} bytes as {path}": Hostile(body(path, content), "source-content")
        for path in ("tcb", "qe/identity", "pckcrl", "rootcacrl")
        for content in (b"", b"[" * 100_000, b"00" * 100)
    },
    "an unsigned QE identity": Hostile(body("qe/identity", b'{"enclaveIdentity":{}}'), "source-content"),
    "an expired set": Hostile(edited("tcb_info", nextUpdate="2026-11-24T00:00:00Z"), "collateral"),
    "another platform's": Hostile(edited("tcb_info", fmspc="000000000000"), "collateral-of-another-set"),
    "parts of two sets": Hostile(edited("tcb_info", tcbEvaluationDataNumber=2), "collateral-of-another-set"),
    "another CA's": Hostile(answers_of(PROCESSORS), "collateral-of-another-set"),
    "another root's": Hostile(answers_of(STRANGERS), "collateral-signer"),
    "no marks of simulation": Hostile(UNMARKED, "collateral-marks"),
    "forged dates": Hostile(
        edited("tcb_info", sign_again=False, nextUpdate="2099-01-01T00:00:00Z"), "collateral-signature"
    ),
    "forged dates, once": Hostile(
        GOOD | {"tcb": [edited("tcb_info", sign_again=False, nextUpdate="2099-01-01T00:00:00Z")["tcb"], GOOD["tcb"]]}
    ),
    "a forged QE identity": Hostile(edited("qe_identity", sign_again=False, isvprodid=7), "collateral-signature"),
    "a stranger's revocation list": Hostile(collateral(pck_crl=STRANGERS.pck_crl), "collateral-crl"),
    "a stranger's list of the root": Hostile(collateral(root_ca_crl=STRANGERS.root_ca_crl), "collateral-crl"),
    "its signer revoked": Hostile(collateral(root_ca_crl=revoking(SIGNER)), "collateral-revoked", discards=True),
    "the PCK's CA revoked": Hostile(collateral(root_ca_crl=revoking(PCK_CA)), "collateral-revoked", discards=True),
    "the root revoked": Hostile(collateral(root_ca_crl=revoking(ROOT)), "collateral-revoked", discards=True),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The good source's authority, and its certificate with key."""
    ca, certificate = own_authority(tmp_path_factory.mktemp("authority"))
    return SimpleNamespace(ca=ca, certificate=certificate)


def served(hostile, authority, folder, port=0):
    """Serve as this source does; and the file of the authority with which clients ask it."""
    if (hostile.host, hostile.days, hostile.unknown) == ("127.0.0.1", 0, False):
        return serving(_fresh(GOOD | hostile.answers), authority.certificate, port=port), authority.ca
    ca, certificate = own_authority(folder, hostile.host, datetime.now(UTC) + timedelta(days=hostile.days))
    return serving(GOOD, certificate, port=port), authority.ca if hostile.unknown else ca


def _fresh(answers):
    return {path: list(answer) if isinstance(answer, list) else answer for path, answer in answers.items()}


def sets(directory):
    return {file.name: file.read_bytes() for file in directory.glob("*.json")}


@pytest.mark.parametrize("hostile", SOURCES.values(), ids=SOURCES)
def test_an_empty_cache_keeps_nothing_of_it(tmp_path, authority, hostile):
    server, ca = served(hostile, authority, tmp_path)
    with server as (service, url):
        cache = cache_of(tmp_path / "cache", Source(url, ca_file=ca), Clock(), seconds=hostile.seconds)
        if not hostile.code:
            assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
            return
        with raises(hostile.code, FetchError, "why", "remedy") as caught:
            cache.get(EVIDENCE.quote)
        assert type(caught.value) is FetchError
        assert ("--ca" in caught.value.remedy) == (hostile.code == "source-tls-authority")
        asked = len(service.asked)
        if "-tls-" in hostile.code:
            assert asked == 0
        elif len(hostile.answers) == 1:
            (path,) = hostile.answers
            times = 2 if hostile.code in TRIED_TWICE else 1
            assert [name for name, _ in service.asked].count(path) == times
        with raises(hostile.code, FetchError, "why", "remedy"):
            cache.get(EVIDENCE.quote)
        assert len(service.asked) == asked
    assert sets(tmp_path / "cache") == {}


@pytest.mark.parametrize("hostile", SOURCES.values(), ids=SOURCES)
def test_a_set_at_hand_stays_in_use(tmp_path, authority, hostile):
    clock, directory = Clock(), tmp_path / "cache"
    with serving(GOOD, authority.certificate) as (_, url):
        cache_of(directory, Source(url, ca_file=authority.ca), clock).get(EVIDENCE.quote)
    before, clock.now = sets(directory), HALF
    server, ca = served(hostile, authority, tmp_path, int(url.rpartition(":")[2]))
    with server:
        cache = cache_of(directory, Source(url, ca_file=ca), clock, seconds=hostile.seconds)
        assert cache.get(EVIDENCE.quote).collateral == EVIDENCE.collateral
        settle()
        if hostile.discards:
            for _ in range(2):
                with raises(hostile.code, FetchError, "why", "remedy"):
                    cache.get(EVIDENCE.quote)
            assert sets(directory) == {}
            return
        found = cache.get(EVIDENCE.quote)
        assert (found.collateral, bool(found.problem)) == (EVIDENCE.collateral, bool(hostile.code))
        assert sets(directory) == before
    clock.now += HOUR
    with serving(GOOD, authority.certificate, port=int(url.rpartition(":")[2])):
        cache = cache_of(directory, Source(url, ca_file=authority.ca), clock)
        cache.get(EVIDENCE.quote)
        settle()
        assert cache.get(EVIDENCE.quote).problem == ""
