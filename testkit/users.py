import contextlib
import os


@contextlib.contextmanager
def as_user(uid=1000):
    """Change this process's user during the block; skip the test unless root runs it."""
    import pytest

    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
