"""What holds for every test, of whichever room."""

import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

BUILDS_PROGRAMS = "make e2e-tools"
"""What tests without helm or kubectl name as the reason for which they are skipped."""

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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Say once, after all else, how many tests were left out for want of helm or kubectl."""
    yield
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    skipped = reporter.stats.get("skipped", ()) if reporter else ()
    if left_out := sum(BUILDS_PROGRAMS in str(report.longrepr) for report in skipped):
        reporter.write_line(
            f"{left_out} tests were left out without helm or kubectl: `{BUILDS_PROGRAMS} test` runs them too"
        )
