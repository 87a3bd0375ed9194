import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st

from confcom.sgx import marks
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral.signed_json import SignedJson
from confcom.simulation.collateral import sign_document
from confcom.simulation.pki import BACKDATE
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from confcom.simulation.validity import RENEWAL_INTERVAL, VALIDITY, Validity
from testkit.verify.verify_lab import verify_signature

ORIGIN = datetime(2026, 11, 24, tzinfo=UTC)
times = st.timedeltas(timedelta(days=-9000), timedelta(days=7000)).map(lambda age: ORIGIN + age)


def verify_document(signed: SignedJson, certificate: x509.Certificate) -> None:
    verify_signature(certificate.public_key(), signed.signature, signed.body)


@given(times)
def test_collateral_is_a_day_old_at_least_and_good_for_two_weeks(now):
    validity = Validity.around(ORIGIN, now)
    assert validity.issue_date <= now - BACKDATE
    assert validity.next_update >= now + timedelta(days=14)
    assert validity.next_update - validity.issue_date == VALIDITY


@given(times, st.timedeltas(timedelta(0), RENEWAL_INTERVAL))
def test_dates_change_only_from_period_to_period(now, later):
    first, second = Validity.around(ORIGIN, now), Validity.around(ORIGIN, now + later)
    assert second.issue_date - first.issue_date in {timedelta(0), RENEWAL_INTERVAL}
    assert Validity.around(ORIGIN, first.issue_date + BACKDATE) == first


def test_first_period_begins_with_the_certificates(platform, now):
    tcb_info = platform.collateral(now).read_tcb_info()
    assert (
        tcb_info.issue_date
        == platform.pki.root.certificate.not_valid_before_utc
        == now.replace(microsecond=0) - BACKDATE
    )
    assert tcb_info.next_update == tcb_info.issue_date + VALIDITY


def test_same_period_same_bytes_in_any_time_zone_then_renewed(platform, now):
    collateral = platform.collateral(now)
    elsewhere = (now + timedelta(days=14)).astimezone(timezone(timedelta(hours=-11)))
    renewed = platform.collateral(now + RENEWAL_INTERVAL)
    assert platform.collateral(elsewhere) == collateral
    assert renewed.read_tcb_info().issue_date == collateral.read_tcb_info().issue_date + RENEWAL_INTERVAL
    assert renewed.tcb_info_issuer_chain == collateral.tcb_info_issuer_chain


def test_documents_are_signed_by_the_tcb_signer_whose_chain_is_there(any_platform, now):
    collateral = any_platform.collateral(now)
    signer = any_platform.pki.tcb_signer.certificate
    for signed in (collateral.read_tcb_info().signed, collateral.read_qe_identity().signed):
        verify_document(signed, signer)
        with pytest.raises(InvalidSignature):
            verify_document(replace(signed, body=signed.body.replace(b"SIMULATED", b"Simulated")), signer)
    for chain in (collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain):
        first, root = map(x509.load_pem_x509_certificate, split_pem_chain(chain))
        assert first == signer
        assert root == any_platform.pki.root.certificate
    ca, root = map(x509.load_pem_x509_certificate, split_pem_chain(collateral.pck_crl_issuer_chain))
    assert ca == any_platform.pki.pck_ca.certificate
    assert x509.load_der_x509_crl(collateral.pck_crl).is_signature_valid(ca.public_key())
    assert x509.load_der_x509_crl(collateral.root_ca_crl).is_signature_valid(root.public_key())


def test_tcb_info_to_the_letter(platform, now):
    advisories = ["SIMULATED-NOT-GENUINE-INTEL"]
    dates = {"tcbDate": "2026-11-23T12:30:15Z"}
    assert json.loads(platform.collateral(now).read_tcb_info().signed.body) == {
        "id": "SGX",
        "version": 3,
        "issueDate": "2026-11-23T12:30:15Z",
        "nextUpdate": "2026-12-23T12:30:15Z",
        "fmspc": "53494D534758",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 1,
        "tcbLevels": [
            {
                "tcb": {"sgxtcbcomponents": [{"svn": 2}] * 16, "pcesvn": 2},
                "tcbStatus": "UpToDate",
                "advisoryIDs": advisories,
                **dates,
            },
            {
                "tcb": {"sgxtcbcomponents": [{"svn": 0}] * 16, "pcesvn": 0},
                "tcbStatus": "OutOfDate",
                "advisoryIDs": advisories,
                **dates,
            },
        ],
        "simulation": {"genuine": False, "comment": marks.NS_COMMENT},
    }


@pytest.mark.parametrize(("isv_svn", "levels"), [(0, [0]), (1, [1, 0]), (9, [9, 0])])
def test_qe_identity_to_the_letter(platform, now, isv_svn, levels):
    identity = replace(DEFAULT_QE_IDENTITY, isv_svn=isv_svn, mr_signer=b"\x5a\xbc" * 16)
    assert json.loads(platform.collateral(now, identity).read_qe_identity().signed.body) == {
        "id": "QE",
        "version": 2,
        "issueDate": "2026-11-23T12:30:15Z",
        "nextUpdate": "2026-12-23T12:30:15Z",
        "tcbEvaluationDataNumber": 1,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": "5ABC" * 16,
        "isvprodid": 1,
        "tcbLevels": [
            {
                "tcb": {"isvsvn": level},
                "tcbDate": "2026-11-23T12:30:15Z",
                "tcbStatus": status,
                "advisoryIDs": ["SIMULATED-NOT-GENUINE-INTEL"],
            }
            for level, status in zip(levels, ["UpToDate", "OutOfDate"], strict=False)
        ],
        "simulation": {"genuine": False, "comment": marks.NS_COMMENT},
    }


def test_form_is_what_verifiers_read(platform, now):
    collateral = platform.collateral(now)
    for signed in (collateral.read_tcb_info().signed, collateral.read_qe_identity().signed):
        body = signed.body.decode("ascii")
        assert body == json.dumps(json.loads(body), separators=(",", ":"))
        assert "\\u" not in body


def test_any_document_can_be_signed_for_tests_of_verifiers(platform):
    document = sign_document("tcbInfo", {"id": "SGX"}, platform.pki.tcb_signer.private_key)
    assert document.startswith(b'{"tcbInfo":{"id":"SGX"},"signature":"')
    verify_document(SignedJson.parse(document, "tcbInfo"), platform.pki.tcb_signer.certificate)
