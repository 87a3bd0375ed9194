"""The page `/platform` of real helpers: what it shows, from when on, and what it never shows."""

import asyncio
import base64
import hashlib
import time
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from confcom.client import AesmClient
from confcom.quote_helper.platform_record import PlatformRecord
from confcom.relay.self_test import open_aesmd
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension
from confcom.sgx.pck.platform_page import NO_QUOTE, CertifiedTcb, PlatformPage, SgxKind
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.pki import sign_certificate
from confcom.simulation.platform import SimulatedPlatform
from tests.tcb.conftest import Pages

APPLICATION = SimulatedEnclave.from_name("application")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def attest(path):
    client = AesmClient(path, timeout=20)
    return client.quote_fresh_report(lambda target: APPLICATION.create_report(target, bytes(range(64)))).quote


def leaf_of(quote):
    return PckChain.from_quote(Quote.parse(quote)).leaf


def identifiers(data):
    """Everything in a quote that tells one platform from another, in the forms in which a page could show it."""
    quote, leaf = Quote.parse(data), leaf_of(data)
    own = PckExtension.from_certificate(leaf)
    serial = leaf.serial_number.to_bytes(20).lstrip(b"\0")
    found = [own.ppid, own.platform_instance_id, quote.header.user_data[:16], serial, data[:64], data[436:500]]
    found += [hashlib.sha256(data).digest(), leaf.fingerprint(hashes.SHA256()), quote.signature.attestation_key]
    found += [quote.signature.pub_key_id, hashlib.sha256(own.ppid).digest()]
    forms = [str(leaf.serial_number), "BEGIN CERTIFICATE"]
    return forms + [form for one in found for form in (one.hex(), base64.b64encode(one).decode()[:16])]


def shown_of(identifying, page):
    return [one for one in identifying if one.lower() in page.lower()]


def test_tcb_judges_the_page_of_a_real_helper(start_helper):
    cluster = Pages("worker-1")
    cluster.show("worker-1", start_helper("--node-name", "worker-1").wait_ready().get("/platform")[1])
    assert cluster.judged()["groups"][0]["standard"]["status"] == "UpToDate"
    cluster.stage("early")
    assert cluster.judged("--early", exit_code=8)["groups"][0]["early"]["status"] == "OutOfDate"


def test_a_simulated_helper_shows_its_tcb_from_the_start(start_helper):
    helper = start_helper("--node-name", "worker-1").wait_ready()
    status, page = helper.get("/platform")
    quote, found = attest(helper.socket), PlatformPage.from_json(page)
    assert (status, found.kind, found.tcb) == (200, SgxKind.SIMULATED, CertifiedTcb.of(leaf_of(quote)))
    assert abs(found.known_since.timestamp() - time.time()) < 600
    assert shown_of(identifiers(quote), page + helper.get("/platform")[1]) == []


async def test_hardware_shows_its_tcb_from_the_first_relayed_quote_on(in_process, aesmd, short_dir):
    now, parsed = [1_800_000_000.0], []
    record = PlatformRecord(SgxKind.HARDWARE, lambda: now[0])

    def set_pck(pck):
        parsed.append(pck)
        record.set_pck(pck)

    def open_backend(_):
        return open_aesmd(aesmd.path, expected_root=short_dir / "root.pem", on_pck=set_pck)

    async with in_process(None, open_backend=open_backend, more_routes={"/platform": record.response}) as running:
        await running.ready()

        async def page():
            return PlatformPage.from_json((await running.get("/platform"))[1])

        assert await page() == PlatformPage(SgxKind.HARDWARE, why=NO_QUOTE)
        quote = await asyncio.to_thread(attest, running.socket)
        known = PlatformPage(SgxKind.HARDWARE, CertifiedTcb.of(leaf_of(quote)), datetime.fromtimestamp(now[0], UTC))
        async with asyncio.timeout(30):  # the server keeps a rendered page for some milliseconds
            while await page() != known:
                pass
        for _ in range(3):
            now[0] += 60
            await asyncio.to_thread(attest, running.socket)
        assert (await page(), len(parsed)) == (known, 1)
        assert shown_of(identifiers(quote), (await running.get("/platform"))[1]) == []


def issued(value):
    """A PCK certificate whose SGX extension has this value."""
    pki = SimulatedPlatform.create(bytes(32), NOW).pki
    old, key = pki.pck.certificate, pki.pck_ca.private_key
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, pki.pck.private_key.public_key(), 7, old.not_valid_before_utc, old.not_valid_after_utc
    ).add_extension(x509.UnrecognizedExtension(SGX_EXTENSION_OID, value), critical=False)
    return sign_certificate(builder, key)


def test_a_changed_certificate_changes_the_page_and_an_unreadable_one_empties_it():
    now = [NOW.timestamp()]
    record = PlatformRecord(SgxKind.HARDWARE, lambda: now[0])
    first = SimulatedPlatform.create(bytes(32), NOW).pki.pck.certificate
    other = SimulatedPlatform.create(bytes(32), NOW, fmspc=bytes(6)).pki.pck.certificate
    seen = []
    for pck in (first, first, other, issued(b"\x30\0")):
        record.set_pck(pck)
        seen.append(PlatformPage.from_json(record.response().body.decode()))
        now[0] += 60
    assert seen[0] == seen[1] == PlatformPage(SgxKind.HARDWARE, CertifiedTcb.of(first), NOW)
    assert (seen[2].tcb.fmspc, (seen[2].known_since - NOW).seconds) == (bytes(6), 120)
    assert (seen[3].tcb, seen[3].why != NO_QUOTE) == (None, True)
