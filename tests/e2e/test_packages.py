"""Installing the distribution's packages while another apt or dpkg is at work."""

import os

import pytest

from confcom.errors import UnavailableError
from e2e import packages

HELD = "Could not get lock /var/lib/apt/lists/lock. It is held by process 17 (apt-get)"


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An apt-get that notes how it was called, and does what the test writes."""
    calls = tmp_path / "calls"

    def write(script):
        (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>"$CALLS"\n{script}\n')
        (tmp_path / "apt-get").chmod(0o755)
        return lambda: calls.read_text().splitlines()

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return write


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def install(clock):
    packages.install({"no-such-program": "its-package"}, purpose="the test", clock=clock, sleep=clock.sleep)


def test_apt_waits_for_dpkgs_lock_and_it_is_said(apt, capfd):
    calls = apt('[ "$2" = update ] || echo "Waiting for cache lock: Could not get lock. It is held by process 17"')
    install(Clock())
    update, command = calls()
    assert update == f"--option=DPkg::Lock::Timeout={packages.LOCK_SECONDS} update"
    assert command.endswith("install --yes --no-install-recommends its-package")
    (told,) = [line for line in capfd.readouterr().err.splitlines() if "is waited for" in line]
    assert "held by process 17" in told


def test_the_lists_lock_for_which_apt_does_not_wait_is_tried_again(apt, capfd):
    calls = apt(f'[ "$2" = update ] && [ $(wc -l <"$CALLS") -lt 4 ] && {{ echo "E: {HELD}" >&2; exit 100; }}; exit 0')
    clock = Clock()
    install(clock)
    assert [line.split()[1] for line in calls()] == ["update"] * 4 + ["install"]
    assert clock.now == 3 * packages.LOOK_SECONDS
    assert len([line for line in capfd.readouterr().err.splitlines() if HELD in line]) == 1


def test_it_is_given_up_at_last_with_what_apt_says(apt, monkeypatch):
    monkeypatch.setattr(packages, "LOCK_SECONDS", 10)
    apt(f'echo "E: {HELD}" >&2; exit 100')
    clock = Clock()
    with pytest.raises(UnavailableError) as caught:
        install(clock)
    assert HELD in caught.value.why
    assert clock.now == 20  # for the lists, and for the packages


def test_another_failure_is_not_waited_out(apt):
    apt('[ "$2" = update ] && exit 0; echo "E: Unable to locate package its-package" >&2; exit 100')
    clock = Clock()
    with pytest.raises(UnavailableError, match="the test needs its-package") as caught:
        install(clock)
    assert "Unable to locate" in caught.value.why
    assert clock.now == 0.0


def test_what_is_there_is_not_installed(apt):
    calls = apt("exit 1")
    packages.install({"sh": "dash"}, purpose="the test")
    with pytest.raises(FileNotFoundError):
        calls()
