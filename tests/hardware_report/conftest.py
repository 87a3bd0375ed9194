import pytest

from confcom.quote_provider.simulated import SimulatedQuoteProvider
from testkit.hosts.sgx_node import SgxNode
from testkit.stub_aesmd import StubAesmd


@pytest.fixture
def platform(tmp_path):
    return SimulatedQuoteProvider.open_or_create(tmp_path / "platform")


@pytest.fixture
def aesmd(short_dir, platform):
    stub = StubAesmd(short_dir / "aesm.socket", platform).start()
    yield stub
    stub.hang.set()
    stub.kill()


@pytest.fixture
def node(tmp_path, aesmd):
    return SgxNode(tmp_path / "root", aesmd.path)
