import pytest

from confcom.relay.restart_policy import REQUEST_FILE
from confcom.relay.self_test import open_aesmd
from testkit.stub_aesmd import running_stub


@pytest.fixture
def aesmd(short_dir):
    with running_stub(short_dir) as stub:
        yield stub


@pytest.fixture
def request_file(aesmd):
    return aesmd.path.with_name(REQUEST_FILE)


@pytest.fixture
def restarts():
    """The causes of requested restarts."""
    return []


@pytest.fixture
def open_backend(aesmd, short_dir, clock, restarts):
    root = short_dir / "root.pem"
    return lambda: open_aesmd(aesmd.path, expected_root=root, clock=clock, on_restart=restarts.append)


@pytest.fixture
def backend(open_backend):
    return open_backend()
