"""The dates that a provider tells are those that verifiers find in its quotes and its collateral."""

from datetime import timedelta

import pytest
from cryptography import x509

from confcom.quote_provider.base import Expiring
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave


@pytest.fixture
def provider(tmp_path, clock):
    return SimulatedQuoteProvider.open_or_create(tmp_path, clock=clock)


def test_the_certificate_in_the_quotes(provider, now):
    report = SimulatedEnclave.from_name("application").create_report(provider.identity().target_info, bytes(64))
    quote = Quote.parse(provider.quote(report, None).quote)
    leaf = x509.load_pem_x509_certificate(quote.signature.certification.pem_chain()[0])
    assert provider.expiries(now)[Expiring.PCK_CERTIFICATE] == leaf.not_valid_after_utc > now


@pytest.mark.parametrize("later", [timedelta(), timedelta(days=15), timedelta(days=400)])
def test_what_of_the_collateral_ends_first(provider, tmp_path, now, later):
    collateral = open_platform(tmp_path).collateral(now + later)
    ends = [
        collateral.read_tcb_info().next_update,
        collateral.read_qe_identity().next_update,
        x509.load_der_x509_crl(collateral.pck_crl).next_update_utc,
        x509.load_der_x509_crl(collateral.root_ca_crl).next_update_utc,
    ]
    assert provider.expiries(now + later)[Expiring.COLLATERAL] == min(ends) > now + later
