"""A node with SGX, or without anything."""

import pytest

from confcom.hardware_report.devices import Caller
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.sgx.epc_from_cpuid import CpuidRegisters
from testkit.hosts.sgx_node import BARE, EPC, FILES, FakeNode
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
    """A node with SGX, Intel's packages and aesmd, on which nothing is wrong."""
    made = FakeNode(tmp_path / "root", aesmd.path)
    made.set_epc(*EPC)
    made.driver.mkdir(parents=True)
    for path, text in FILES.items():
        made.write(path, text)
    return made


@pytest.fixture
def bare(tmp_path):
    """A machine without SGX, on which nothing can be read either."""
    root = tmp_path / "bare"
    root.mkdir()
    made = FakeNode(root, tmp_path / "nowhere" / "aesm.socket")
    made.remove("sys/devices/system/node/node0/x86/sgx_total_bytes")
    made.nodes.clear()
    made.leaves = dict(BARE) | {(7, 0): CpuidRegisters(0, 0, 0, 0)}
    made.caller = Caller(1000, frozenset({1000}))
    return made
