import pytest

from confcom.relay.self_test import open_aesmd


@pytest.fixture
def restarts():
    """Causes of the restarts that the relay has requested, in order."""
    return []


@pytest.fixture
def open_backend(aesmd, short_dir, clock, restarts):
    root = short_dir / "root.pem"
    return lambda: open_aesmd(aesmd.path, expected_root=root, clock=clock, on_restart=restarts.append)


@pytest.fixture
def backend(open_backend):
    return open_backend()
