"""Settings and hooks for every test in this repository."""

import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

BUILDS_PROGRAMS = "make e2e-tools"
"""Reason that tests name when they are skipped for lack of helm or kubectl."""
HAS_PROMETHEUS = "apt-get install prometheus"
"""Reason that tests name when they are skipped for lack of Prometheus."""
LEFT_OUT = {
    f"helm or kubectl: `{BUILDS_PROGRAMS} test` runs them too": BUILDS_PROGRAMS,
    f"Prometheus: `{HAS_PROMETHEUS} && make test T=tests/alerts` runs them": HAS_PROMETHEUS,
}
"""What tests lack, with the command that runs these tests, and the reason that the tests name."""

pytest.register_assert_rewrite("testkit.kubelet_contract")


def pytest_configure() -> None:
    """Reset signals to a terminal's defaults, and let no hypothesis example fail because the machine is slow.

    Programs in the background or under nohup start with some signals ignored.
    """
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Print once, at the end, how many tests were skipped for lack of a program."""
    yield
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    skipped = reporter.stats.get("skipped", ()) if reporter else ()
    for lacking, reason in LEFT_OUT.items():
        if left_out := sum(reason in str(report.longrepr) for report in skipped):
            reporter.write_line(f"{left_out} tests were left out without {lacking}")
