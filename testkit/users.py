import contextlib
import os


@contextlib.contextmanager
def as_user(uid=1000):
    """Be another user during the block; without root, skip the test."""
    import pytest

    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
