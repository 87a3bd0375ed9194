"""Simulated TD quotes, with the verdicts of dcap-qvl, and those of Intel's library on the collateral alone."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest

from confcom.collateral import fetch_collateral
from confcom.errors import ConfcomError
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.sgx.simulation_marks import Mark
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.td_quoting_enclave import quote_td
from confcom.testing import Attestation, SimulatedTd, TeeType
from confcom.testing.collateral_service import serve_collateral
from confcom.verify import verify
from confcom.verify.checks.marks import REQUIRED_MARKS, CertifyingMarks, present_collateral_marks, present_marks
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.trust import intel_root
from testkit.expected_errors import raises
from testkit.verify.intels_library import intels_statuses
from testkit.verify.verify_lab import NOW, SEED, appraise, failed_codes
from testkit.verify.verify_lab import Evidence as LabEvidence

VERSIONS = {"1.0": (4, TdReport10), "1.5": (5, TdReport15), "1.5ex": (5, TdReport15Ex)}
RELAUNCH = {TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED}
ADVISORY = "SIMULATED-NOT-GENUINE-INTEL"


def word(evidence, root=None):
    """dcap-qvl's status and advisories, or "refused" and the error's text."""
    found = appraise(evidence.quote, (root or evidence.root).der, evidence.collateral, datetime.now(UTC))
    return ("refused", found) if isinstance(found, str) else (found.status, [*found.advisory_ids])


@pytest.mark.parametrize("body", VERSIONS)
def test_dcap_qvl_accepts_each_body_under_this_root_alone(attestation, body):
    evidence = attestation.td_quote(b"c", body=body)
    assert word(evidence) == ("UpToDate", [ADVISORY])
    assert word(evidence, Attestation.create().root)[0] == "refused"
    assert word(evidence, intel_root())[0] == "refused"
    quote = Quote.parse(evidence.quote)
    assert (quote.header.version, type(quote.body)) == VERSIONS[body]
    assert quote.encode() == evidence.quote
    assert (quote.body.mr_td, quote.body.rtmr0) == (attestation.td.mr_td, attestation.td.rtmr0)
    assert quote.body.report_data == b"c" + bytes(63)


@pytest.mark.parametrize("body", VERSIONS)
def test_marks(attestation, body):
    evidence = attestation.td_quote(b"c", body=body)
    quote = Quote.parse(evidence.quote)
    chain = PckChain.from_quote(quote)
    certifying = CertifyingMarks.of(quote.signature, chain, chain.extension())
    assert REQUIRED_MARKS | {Mark.QE_MRSIGNER} <= present_marks(quote, certifying)
    assert REQUIRED_MARKS - certifying.all == {Mark.HEADER_USER_DATA}
    assert len(present_collateral_marks(evidence.collateral.read())) == 2
    assert quote.body.mr_signer_seam not in {bytes(48), quote.body.mr_seam}
    assert quote.signature.qe_report_body.isv_prod_id == evidence.collateral.read().qe_identity.isv_prod_id == 2


@pytest.mark.parametrize("body", VERSIONS)
@pytest.mark.parametrize("status", TcbStatus)
def test_each_status(attestation, status, body):
    if status in RELAUNCH and body == "1.0":
        with raises("wrong-value", ConfcomError, "why", "remedy"):
            attestation.td_quote(b"c", tcb=status, body=body)
        return
    found, _ = word(attestation.td_quote(b"c", tcb=status, body=body))
    assert found == ("refused" if status is TcbStatus.REVOKED else status)


REFUSALS = {
    "debug": ({"debug": True}, "Debug mode"),
    "service TD": ({"service_td": True}, "Invalid MR service TD"),
    "revoked": ({"revoked": True}, "CertRevoked"),
    "expired": ({"expired": True}, "CrlExpired"),
}


@pytest.mark.parametrize(("defect", "text"), REFUSALS.values(), ids=REFUSALS)
def test_what_dcap_qvl_refuses(attestation, defect, text):
    found, why = word(attestation.td_quote(b"c", **defect))
    assert found == "refused"
    assert text in why


STAGINGS = {
    Staging.NONE: ("UpToDate", "UpToDate"),
    Staging.OUT_OF_DATE: ("OutOfDate", "OutOfDate"),
    Staging.CONFIGURATION_NEEDED: ("ConfigurationNeeded", "ConfigurationNeeded"),
    Staging.SW_HARDENING_NEEDED: ("SWHardeningNeeded", "SWHardeningNeeded"),
    Staging.RELAUNCH_ADVISED: ("OutOfDate", "TDRelaunchAdvised"),
    Staging.REVOKED: ("refused", "refused"),
    Staging.EARLY: ("UpToDate", "UpToDate"),
    Staging.EXPIRED: ("refused", "refused"),
}
"""dcap-qvl's word on a TD with a body 1.0 and 1.5, keyed by the staging."""


@pytest.mark.parametrize("staging", Staging)
def test_each_staging(staging):
    platform = SimulatedPlatform.create(SEED, NOW)
    td = SimulatedTd.from_name("app")
    collateral = Collateral.from_files(platform.collateral(NOW, staging=staging, tee=TeeType.TDX).to_files())
    evidence = LabEvidence(
        quote_td(SEED, platform.pki, td.report(bytes(64))), platform.pki.root.certificate, collateral
    )
    of_1_0 = replace(evidence, quote=quote_td(SEED, platform.pki, td.report(bytes(64), TdReport10)))
    assert tuple(getattr(one.appraisal(), "status", "refused") for one in (of_1_0, evidence)) == STAGINGS[staging]
    early = platform.collateral(NOW, staging=staging, early=True, tee=TeeType.TDX)
    assert (early.tcb_info != collateral.tcb_info) is (staging is Staging.EARLY)
    assert (intels_statuses(evidence)[:3] == ["STATUS_OK"] * 3) is (staging is not Staging.EXPIRED)


def test_keys_and_identities_are_of_the_td_quoting_enclave(attestation):
    sgx, td = (Quote.parse(one.quote).signature for one in (attestation.quote(b"c"), attestation.td_quote(b"c")))
    assert sgx.certification == td.certification
    assert sgx.attestation_key != td.attestation_key
    assert sgx.qe_report_body.mr_signer != td.qe_report_body.mr_signer
    assert attestation.quote(b"c").platform_id == attestation.td_quote(b"c").platform_id


def test_fields_and_machines(attestation):
    td = SimulatedTd.from_name("another")
    body = Quote.parse(attestation.td_quote(b"c", td=td, rtmr3=b"\3" * 48, mr_owner=b"\4" * 48).quote).body
    assert body.mr_td == td.mr_td != attestation.td.mr_td
    assert (body.rtmr3, body.mr_owner, body.xfam) == (b"\3" * 48, b"\4" * 48, td.xfam)
    first, second = attestation.td_quote(b"c"), attestation.td_quote(b"c", platform="another")
    assert word(second)[0] == "UpToDate"
    assert word(replace(first, collateral=second.collateral))[0] == "refused"
    assert word(attestation.td_quote(b"c", advisories=["INTEL-SA-00615"]))[1] == [ADVISORY, "INTEL-SA-00615"]
    assert attestation.td_quote(b"c", evaluation=19).collateral.evaluation_number == 19
    assert Attestation.create(td=td).td == td


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"report_data": b""}, "report-data-size"),
        ({"body": "2.0"}, "wrong-value"),
        ({"body": "1.0", "service_td": True}, "wrong-value"),
        ({"tcb": "Good"}, "wrong-value"),
        ({"mr_td": bytes(32)}, "wrong-size"),
        ({"td_attributes": 1 << 64}, "out-of-range"),
    ],
)
def test_arguments_that_cannot_be_meant(attestation, arguments, code):
    with raises(code, ConfcomError):
        attestation.td_quote(**({"report_data": b"c"} | arguments))


@pytest.mark.parametrize("status", RELAUNCH)
def test_a_status_of_tdx_alone_is_refused_for_sgx(attestation, status):
    with raises("wrong-value", ConfcomError, "remedy"):
        attestation.quote(b"c", tcb=status)


def test_collateral_of_both_is_served(attestation):
    with serve_collateral(attestation, tcb="TDRelaunchAdvised") as source:
        base = source.base.removesuffix("/sgx/certification/v4/")
        answers = {
            path: httpx2.get(f"{base}/{path}", trust_env=False)
            for path in (
                "tdx/certification/v4/tcb?fmspc=53494d534758",
                "tdx/certification/v4/qe/identity",
                "tdx/certification/v4/pckcrl",
                "sgx/certification/v4/qe/identity",
            )
        }
        quote = attestation.td_quote(b"c").quote
        fetched = fetch_collateral(quote, source)
    assert [answer.status_code for answer in answers.values()] == [200, 200, 404, 404]
    assert [answer.content for answer in answers.values()][:2] == [fetched.tcb_info, fetched.qe_identity]
    verdict = verify(quote, attestation.td_policy(b"c"), fetched, attestation.root)
    assert (failed_codes(verdict), verdict.tcb_status) == (["tcb-status"], "TDRelaunchAdvised")
