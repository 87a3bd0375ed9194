"""A real processor's quote and collateral, under Intel's root: at its time, today, and forged."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import dcap_qvl
import pytest

from confcom.verify import SgxPolicy, VerdictKind
from confcom.verify.trust import Platform
from testkit.programs import run_confcom
from testkit.verify.genuine_quotes import TIMES, VECTORS, genuine
from testkit.verify.intels_library import ACCEPTED, intels_status
from testkit.verify.tampering import FIELDS, flip, strangers
from testkit.verify.verify_lab import failed_codes, failed_in

QUOTE, COLLATERAL = VECTORS / "sgx_quote", VECTORS / "sgx_quote_collateral.json"
GENUINE, THEN = genuine("sgx_quote"), TIMES["sgx_quote"]
INTELS_STATUS = "STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED"
STATUS, ADVISORIES = "ConfigurationAndSWHardeningNeeded", ("INTEL-SA-00289", "INTEL-SA-00615")
DEMANDS = {"mr_enclave": GENUINE.quote[112:144], "report_data": b"Hello, world!".ljust(64, b"\0")}
ACCEPTING = SgxPolicy(**DEMANDS, accepted_tcb_statuses=[STATUS])


def dcap_qvls(now):
    """dcap-qvl's verdict, by its own reading of the file, with its built-in root."""
    collateral = dcap_qvl.QuoteCollateralV3.from_json(COLLATERAL.read_text())
    return dcap_qvl.verify(GENUINE.quote, collateral, int(now.timestamp()))


def test_in_its_time_it_is_judged_by_its_tcb():
    verdict, theirs = GENUINE.verdict(ACCEPTING), dcap_qvls(THEN)
    assert (verdict.ok, verdict.platform) == (True, Platform.GENUINE)
    assert (verdict.tcb_status, verdict.advisory_ids) == (STATUS, ADVISORIES)
    assert (theirs.status, tuple(theirs.advisory_ids)) == (STATUS, ADVISORIES)
    assert (verdict.marks, verdict.claims.report_data) == ((), DEMANDS["report_data"])
    by_default = GENUINE.verdict(SgxPolicy(**DEMANDS))
    assert (by_default.kind, failed_codes(by_default)) == (VerdictKind.AUTHENTIC_NOT_AUTHORISED, ["tcb-status"])


def test_in_its_time_intels_library_says_the_same():
    assert intels_status(GENUINE) == INTELS_STATUS


def test_today_its_collateral_has_expired():
    today = replace(GENUINE, now=datetime.now(UTC))
    verdict = today.verdict(ACCEPTING)
    assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.UNUSABLE, ["collateral"])
    assert verdict.claims is None
    with pytest.raises(ValueError, match="Expired"):
        dcap_qvls(today.now)


def edited(part, change):
    def tamper(_lab, evidence):
        before = getattr(evidence.collateral, part)
        assert change(before) != before
        return evidence.with_collateral(**{part: change(before)})

    return tamper


def last_byte(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def revised(part, old, new):
    return edited(part, lambda data: data.replace(old, new))


FORGERIES = {
    "the enclave": (flip(*FIELDS["mr_enclave"]), "signatures"),
    "the report data": (flip(*FIELDS["report_data"]), "signatures"),
    "the quote's signature": (flip(*FIELDS["signature of the quote"]), "signatures"),
    "the attestation key": (flip(*FIELDS["attestation key"]), "signatures"),
    "the quoting enclave": (flip(*FIELDS["QE report"]), "signatures"),
    "the trusted root": (lambda lab, ev: replace(ev, root=lab.platform.pki.root.certificate), "root"),
    "the TCB's status": (revised("tcb_info", STATUS.encode(), b"UpToDate"), "collateral-signature"),
    "the TCB info's dates": (revised("tcb_info", b"2025-07-19", b"2035-07-19"), "collateral-signature"),
    "the QE identity's dates": (revised("qe_identity", b"2025-07-19", b"2035-07-19"), "collateral-signature"),
    "the PCK revocation list": (edited("pck_crl", last_byte), "collateral-crl"),
    "the root's revocation list": (edited("root_ca_crl", last_byte), "collateral-crl"),
    "the collateral's signer": (strangers("tcb_info_issuer_chain"), "collateral"),
}


@pytest.mark.parametrize(("tamper", "code"), FORGERIES.values(), ids=FORGERIES)
def test_forged_evidence_is_refused(lab, tamper, code):
    verdict = tamper(lab, GENUINE).verdict(ACCEPTING)
    assert verdict.kind is (VerdictKind.UNUSABLE if code.startswith("collateral") else VerdictKind.NOT_AUTHENTIC)
    assert failed_codes(verdict)[0] == code
    assert verdict.claims is None


@pytest.mark.parametrize(("tamper", "code"), FORGERIES.values(), ids=FORGERIES)
def test_intels_library_refuses_what_is_forged(lab, tamper, code):
    assert intels_status(tamper(lab, GENUINE)) not in {ACCEPTED, INTELS_STATUS}, code


@pytest.mark.parametrize(
    ("options", "exit_code", "codes"),
    [
        (["--at", THEN.isoformat(), "--accept-tcb", STATUS], 0, []),
        (["--at", THEN.isoformat()], 3, ["tcb-status"]),
        (["--accept-tcb", STATUS], 5, ["collateral"]),
    ],
    ids=["in its time", "in its time by default", "today"],
)
def test_the_command_reads_the_files_as_they_are(options, exit_code, codes):
    demands = ["--mrenclave", DEMANDS["mr_enclave"].hex(), "--report-data", DEMANDS["report_data"].hex()]
    files = ["verify", QUOTE, "--root", "intel", "--collateral", COLLATERAL]
    result = run_confcom(*files, *demands, *options, "--output", "json")
    platform = json.loads(result.stdout)["platform"]
    assert (result.exit_code, platform, failed_in(result)) == (exit_code, "genuine", codes)
