import os
import tempfile
from pathlib import Path

import pytest

from confcom import passed_descriptors

# The variable must be set before gRPC is imported, or gRPC's fork() handlers write to stderr and end children.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

AESM_VECTORS = Path(__file__).parent / "vectors" / "aesm"


@pytest.fixture
def short_dir():
    """A directory with a path so short that paths of unix sockets in it are not too long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def refusal():
    """Skip the test if the kernel cannot refuse passed descriptors."""
    if not passed_descriptors.are_refusable():
        pytest.skip("this kernel cannot refuse descriptors (SO_PASSRIGHTS, Linux 6.16)")


@pytest.fixture
def aesmd(short_dir):
    from testkit.stub_aesmd import running_stub

    with running_stub(short_dir) as stub:
        yield stub


@pytest.fixture
def request_file(aesmd):
    from confcom.relay.restart_policy import REQUEST_FILE

    return aesmd.path.with_name(REQUEST_FILE)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that shows `now`, which only a test changes."""
    return Clock()


@pytest.fixture(scope="session")
def vector():
    """Reads messages recorded from Intel's client and server, including the frame header."""
    return lambda name: bytes.fromhex((AESM_VECTORS / f"{name}.hex").read_text())
