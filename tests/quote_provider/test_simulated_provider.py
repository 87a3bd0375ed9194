import logging
from dataclasses import replace

import pytest

from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import ROOT_FOLDER, open_or_create_platform, open_platform
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from confcom.simulation.root_seed import SEED
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verifier import verify_quote

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))


@pytest.fixture
def provider(tmp_path, clock):
    return SimulatedQuoteProvider(open_or_create_platform(tmp_path, clock=clock).platform)


@pytest.mark.parametrize(
    ("isv_svn", "status"), [(0, "OutOfDate"), (1, "UpToDate"), (2, "UpToDate"), (65535, "UpToDate")]
)
def test_quotes_of_another_enclave_verify_by_older_collateral(tmp_path, now, provider, isv_svn, status):
    """Relying parties can keep their root and collateral after an update of the quoting enclave."""
    exported = open_platform(tmp_path)
    identity = replace(DEFAULT_QE_IDENTITY, mr_enclave=b"\x17" * 32, isv_svn=isv_svn)
    updated = SimulatedQuoteProvider(open_or_create_platform(tmp_path).platform, identity)
    assert updated.identity().target_info.mr_enclave == b"\x17" * 32
    quote = updated.quote(APPLICATION.create_report(updated.identity().target_info, DATA), None).quote
    assert Quote.parse(quote).signature.qe_report_body.isv_svn == isv_svn
    policy = SgxPolicy(mr_enclave=APPLICATION.mr_enclave, report_data=DATA, allow_simulated=True)
    verdict = verify_quote(quote, TrustedRoot.load(exported.pki.root.pem), exported.collateral(now), policy, now)
    assert verdict.tcb_status == status
    assert verdict.ok is (status == "UpToDate")


def test_secrets_are_in_no_log_and_no_repr(tmp_path, clock, caplog):
    caplog.set_level(logging.DEBUG)
    seed = bytes(range(32)).hex()
    provider = SimulatedQuoteProvider(
        open_or_create_platform(tmp_path, clock=clock, random_bytes=lambda _: bytes.fromhex(seed)).platform
    )
    assert seed in (tmp_path / ROOT_FOLDER / SEED).read_text()
    assert seed not in caplog.text + repr(provider) + repr(vars(provider))
