"""What holds for every test, of whichever room."""

import signal

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("testkit.kubelet_contract")


def pytest_configure() -> None:
    """Take signals as a terminal gives them, and let no example fail because the machine is slow.

    What runs in the background or by nohup is made to ignore some signals.
    """
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
