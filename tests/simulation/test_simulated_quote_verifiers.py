from dataclasses import replace
from datetime import timedelta

import pytest

from confcom.sgx.tcb_documents import TcbStatus
from confcom.simulation.simulated_collateral import RENEWAL_INTERVAL
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal
from confcom.verify.trust import intel_root
from testkit.verify.intels_library import ACCEPTED, intels_statuses
from testkit.verify.td_lab import BODIES, TdxLab
from testkit.verify.verify_lab import Lab

LABS = [(Lab, {}), *((TdxLab, {"codec": codec}) for codec in BODIES.values())]
each_quote = pytest.mark.parametrize(("lab_of", "quoted"), LABS, ids=["SGX", *BODIES])


@each_quote
def test_dcap_qvl_accepts_under_the_simulated_root_alone(any_platform, now, lab_of, quoted):
    lab = lab_of(any_platform)
    evidence = replace(lab.evidence(**quoted), collateral=lab.collateral(now), now=now)
    assert evidence.appraisal() == Appraisal(TcbStatus.UP_TO_DATE, ("SIMULATED-NOT-GENUINE-INTEL",))
    assert isinstance(replace(evidence, root=intel_root().certificate).appraisal(), str)


@pytest.mark.parametrize("age", [timedelta(hours=-23), timedelta(0), timedelta(days=13), RENEWAL_INTERVAL * 40])
def test_collateral_of_any_period_is_accepted_for_two_weeks(platform, now, age):
    lab, taken = Lab(platform), now + age
    for at in (taken, taken + timedelta(days=14)):
        appraisal = replace(lab.evidence(), collateral=lab.collateral(taken), now=at).appraisal()
        assert appraisal.status is TcbStatus.UP_TO_DATE


@each_quote
def test_intels_own_library_accepts_under_the_simulated_root(any_platform, now, lab_of, quoted):
    """Intel's library of 2023 cannot judge quotes of TDX, but their certificates, TCB info and QE identity."""
    lab = lab_of(any_platform)
    evidence = replace(lab.evidence(**quoted), collateral=lab.collateral(now), now=now)
    assert set(intels_statuses(evidence)[: 3 if quoted else 4]) == {ACCEPTED}
