"""Real verifiers, told to trust the simulated root, accept its quotes; told to trust Intel's, they do not."""

from datetime import timedelta

import pytest

from confcom.sgx.certificates import INTEL_ROOT_KEY_ID
from confcom.sgx.collateral.tcb_documents import TcbStatus
from confcom.simulation.pki import RENEWAL_INTERVAL
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Rejection, appraise
from confcom.verify.files import intel_root
from testkit.verify import intel_qvl
from testkit.verify.verify_lab import Evidence


def test_dcap_qvl_accepts_under_the_simulated_root_alone(any_platform, now, make_quote):
    quote, collateral = make_quote(any_platform), any_platform.collateral(now)
    appraisal = appraise(quote, any_platform.pki.root.der, collateral, now)
    assert isinstance(appraisal, Appraisal)
    assert appraisal.tcb_status is TcbStatus.UP_TO_DATE
    assert appraisal.advisory_ids == ("SIMULATED-NOT-GENUINE-INTEL",)
    assert appraisal.root_key_id != INTEL_ROOT_KEY_ID
    assert isinstance(appraise(quote, intel_root().der, collateral, now), Rejection)


@pytest.mark.parametrize("age", [timedelta(hours=-23), timedelta(0), timedelta(days=13), RENEWAL_INTERVAL * 40])
def test_collateral_of_any_period_is_accepted_for_two_weeks(platform, now, make_quote, age):
    taken = now + age
    for at in (taken, taken + timedelta(days=14)):
        appraisal = appraise(make_quote(platform), platform.pki.root.der, platform.collateral(taken), at)
        assert isinstance(appraisal, Appraisal)
        assert appraisal.tcb_status is TcbStatus.UP_TO_DATE


@pytest.mark.skipif(not intel_qvl.AVAILABLE, reason=intel_qvl.WHY_NOT)
def test_intels_own_library_accepts_under_the_simulated_root(any_platform, now, make_quote):
    evidence = Evidence(make_quote(any_platform), any_platform.pki.root.certificate, any_platform.collateral(now), now)
    assert intel_qvl.rejections(evidence) == []
