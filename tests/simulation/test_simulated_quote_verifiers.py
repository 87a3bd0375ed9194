from datetime import timedelta

import pytest

from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from confcom.simulation.simulated_collateral import RENEWAL_INTERVAL
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.trust import intel_root
from testkit.verify.intels_library import ACCEPTED, intels_statuses
from testkit.verify.verify_lab import Evidence, appraise

BODIES = [None, TdReport10, TdReport15, TdReport15Ex]
"""Bodies of TD quotes; None is a quote of an enclave."""


def tee_of(td_body):
    return TeeType.TDX if td_body else TeeType.SGX


@pytest.mark.parametrize("td_body", BODIES)
def test_dcap_qvl_accepts_under_the_simulated_root_alone(any_platform, now, make_quote, td_body):
    quote, collateral = make_quote(any_platform, td_body), any_platform.collateral(now, tee=tee_of(td_body))
    appraisal = appraise(quote, any_platform.pki.root.der, collateral, now)
    assert appraisal == Appraisal(TcbStatus.UP_TO_DATE, ("SIMULATED-NOT-GENUINE-INTEL",))
    assert isinstance(appraise(quote, intel_root().der, collateral, now), str)


@pytest.mark.parametrize("age", [timedelta(hours=-23), timedelta(0), timedelta(days=13), RENEWAL_INTERVAL * 40])
def test_collateral_of_any_period_is_accepted_for_two_weeks(platform, now, make_quote, age):
    taken = now + age
    for at in (taken, taken + timedelta(days=14)):
        appraisal = appraise(make_quote(platform), platform.pki.root.der, platform.collateral(taken), at)
        assert appraisal.status is TcbStatus.UP_TO_DATE


@pytest.mark.parametrize("td_body", BODIES)
def test_intels_own_library_accepts_under_the_simulated_root(any_platform, now, make_quote, td_body):
    """Intel's library of 2023 cannot judge quotes of TDX, but their certificates, TCB info and QE identity."""
    collateral = Collateral.from_files(any_platform.collateral(now, tee=tee_of(td_body)).to_files())
    evidence = Evidence(make_quote(any_platform, td_body), any_platform.pki.root.certificate, collateral, now)
    judged = intels_statuses(evidence)[: 3 if td_body else 4]
    assert set(judged) == {ACCEPTED}
