import pytest
from prometheus_client import CollectorRegistry

from confcom.aesm.messages import GetQuoteExRequest
from confcom.sgx.report import TargetInfo


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def request_(enclave):
    """A request for a quote over report data whose bytes are recognisable in a log."""
    return GetQuoteExRequest(enclave.create_report(TargetInfo.parse(bytes(512)), bytes(range(64))).encode(), 8192)
