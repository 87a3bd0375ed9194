import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.pck.platform_page import CertifiedTcb, PlatformPage, SgxKind
from confcom.simulation.platform import SimulatedPlatform

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DATES = st.integers(0, 3_000_000_000).map(lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
BYTES = st.integers(0, 255)
TCBS = st.builds(
    CertifiedTcb,
    st.binary(min_size=6, max_size=6),
    st.binary(min_size=2, max_size=2),
    st.sampled_from(["PLATFORM", "PROCESSOR"]),
    st.tuples(*[BYTES] * 16),
    st.integers(0, 0xFFFF),
    DATES,
)
PAGES = st.one_of(
    st.builds(PlatformPage, st.sampled_from(SgxKind), TCBS, DATES),
    st.builds(PlatformPage, st.sampled_from(SgxKind), why=st.text()),
)
KNOWN = PlatformPage(SgxKind.HARDWARE, CertifiedTcb(bytes(6), bytes(2), "PLATFORM", (2,) * 16, 13, NOW), NOW)


@given(PAGES)
def test_a_page_is_read_as_it_was_written(page):
    assert PlatformPage.from_json(page.to_json().decode()) == page


@given(st.text())
def test_any_text_is_a_page_or_malformed(text):
    for document in (text, f'{{"version": 1, "platform": "hardware", "tcb": {json.dumps(text)}}}'):
        with pytest.raises(MalformedError):
            PlatformPage.from_json(document)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("fmspc", "00"),
        ("fmspc", 7),
        ("pce_id", "zz00"),
        ("ca", "ROOT"),
        ("ca", None),
        ("components", [2] * 15),
        ("components", [2] * 17),
        ("components", [256] * 16),
        ("components", [-1] * 16),
        ("components", [True] * 16),
        ("components", [2.5] * 16),
        ("components", {"0": 2}),
        ("components", [[2]] * 16),
        ("pce_svn", 65_536),
        ("pce_svn", "13"),
        ("pck_not_after", "tomorrow"),
        ("pck_not_after", 10**400),
        ("known_since", None),
    ],
)
def test_a_value_that_no_platform_has_is_refused(member, value):
    page = json.loads(KNOWN.to_json())
    page["tcb"][member] = value
    with pytest.raises(MalformedError):
        PlatformPage.from_json(json.dumps(page))
    del page["tcb"][member]
    with pytest.raises(MalformedError):
        PlatformPage.from_json(json.dumps(page))


@pytest.mark.parametrize(
    "document",
    [
        *(
            "[]",
            "null",
            "7",
            "{}",
            "[" * 100_000,
            '{"version": 1}',
            '{"version": 2, "platform": "hardware", "tcb": null}',
        ),
        '{"version": 1, "platform": "genuine", "tcb": null, "why": ""}',
        '{"version": 1, "platform": "hardware", "tcb": null}',
        '{"version": 1, "platform": "hardware", "tcb": null, "why": 7}',
        '{"version": 1, "platform": "hardware"}',
    ],
)
def test_another_document_is_refused(document):
    with pytest.raises(MalformedError):
        PlatformPage.from_json(document)


@pytest.mark.parametrize("ca", PCK_CAS)
def test_a_certificates_tcb_is_shown_and_nothing_that_identifies_it(ca):
    pck = SimulatedPlatform.create(bytes(32), NOW, ca=ca, node="worker-1").pki.pck.certificate
    own = PckExtension.from_certificate(pck)
    tcb = CertifiedTcb.of(pck)
    assert (tcb.fmspc, tcb.pce_id, tcb.ca) == (own.fmspc, own.pce_id, ca)
    assert (tcb.components, tcb.pce_svn, tcb.not_after) == (
        own.tcb.components,
        own.tcb.pce_svn,
        pck.not_valid_after_utc,
    )
    shown = PlatformPage(SgxKind.SIMULATED, tcb, NOW).to_json().decode().lower()
    for identifier in filter(None, (own.ppid, own.platform_instance_id)):
        assert identifier.hex() not in shown
    assert f"{pck.serial_number:x}" not in shown
    assert str(pck.serial_number) not in shown
