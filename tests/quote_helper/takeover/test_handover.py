"""Successive helpers at one path lose no request, harm no socket, and let clients renew old target info."""

import dataclasses
import functools
import signal
import threading

import pytest

from confcom.errors import ExitCode
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay.clients import GRAMINE, INTEL_QUOTE_EX, ReplayedClient

QE_2 = ("--simulated-qe-mrenclave", "22" * 32, "--simulated-qe-isvsvn", "2")
QUOTES = 'confcom_quote_helper_request_seconds_count{{request="GetQuoteEx",result="{}"}}'
WITHOUT_QUOTE = dataclasses.replace(INTEL_QUOTE_EX, quote=INTEL_QUOTE_EX.quote[:3])
"""A client that makes all calls except for GetQuoteEx."""


@pytest.fixture
def start_helper(start_helper):
    return functools.partial(start_helper, alterations={"rendering_seconds": 0})


class Load:
    """Runs clients in several threads until the block ends or a client fails, and records all failures.

    In each thread one client never quotes. The other client reads target info once, and again after error 42.
    """

    def __init__(self, path, threads=4):
        self.path = path
        self.failures = []
        self.done = 0
        self.renewals = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def some_more(self, helper, count=10):
        """Wait until `count` more attestations have succeeded, or an attestation has failed."""
        served = self.done
        helper.wait_until(lambda: self.done > served + count or self.failures)

    def _run(self, number):
        quoting = ReplayedClient(GRAMINE, self.path, enclave=SimulatedEnclave.from_name(f"load {number}"))
        runs = [quoting.run()]
        while not self._stop.is_set() and not any(run.failure for run in runs):
            runs = [ReplayedClient(WITHOUT_QUOTE, self.path).run(), quoting.quote()]
            self.renewals += runs[1].renewals
            self.done += 1
        self.failures += [run.failure for run in runs if run.failure]


def quotes(path):
    return ReplayedClient(GRAMINE, path).run().failure == ""


def test_three_overlapping_updates_under_load_lose_nothing(start_helper):
    """The third update changes the quoting enclave. Every code except 42 counts as a failure."""
    first = start_helper().wait_ready()
    with Load(first.socket) as load:
        load.some_more(first)
        second = start_helper().wait_ready()
        third = start_helper().wait_ready()
        assert first.stop() == ExitCode.OK
        fourth = start_helper(*QE_2).wait_ready()
        load.some_more(fourth)
        assert second.stop() == ExitCode.OK
        assert third.stop() == ExitCode.OK
        load.some_more(fourth)
    assert load.failures == []
    assert load.renewals == 4
    assert fourth.metric(QUOTES.format("att_key_not_initialized")) == 4
    assert fourth.metric(QUOTES.format("success")) >= 10
    assert fourth.stop() == ExitCode.OK
    assert list(fourth.socket.parent.iterdir()) == []


def test_a_rollback_loses_no_request(start_helper):
    """In a rollback the newer of two helpers is stopped first."""
    old = start_helper().wait_ready()
    new = start_helper().wait_ready()
    old.wait_until(lambda: not old.ready)
    with Load(old.socket, threads=2) as load:
        load.some_more(new, 5)
        assert new.stop() == ExitCode.OK
        old.wait_ready()
        load.some_more(old, 5)
    assert load.failures == []


def test_a_killed_helper_leaves_its_path_to_the_others(start_helper):
    first = start_helper().wait_ready()
    assert start_helper().wait_ready().stop(signal.SIGKILL) == -signal.SIGKILL
    first.wait_until(lambda: quotes(first.socket))
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert not quotes(first.socket)
    assert quotes(start_helper().wait_ready().socket)


def test_a_repeated_sigterm_does_not_end_a_hand_over(start_helper):
    """A restarted containerd sends SIGTERM again, which must not end the hand-over; Ctrl-C does end it."""
    old = start_helper("--handover-seconds=600").wait_ready()
    for _ in range(3):
        old.process.send_signal(signal.SIGTERM)
        old.wait_until(lambda: not old.ready)
        assert quotes(old.socket)
    old.process.send_signal(signal.SIGINT)
    assert old.process.wait(30) == ExitCode.FAILED


def test_a_version_that_can_never_quote_leaves_the_old_one(start_helper, short_dir):
    old = start_helper().wait_ready()
    damaged = short_dir / "damaged"
    (damaged / "simulated-root").mkdir(parents=True)
    assert start_helper("--state-dir", str(damaged)).process.wait(30) == ExitCode.UNUSABLE
    assert old.ready
    assert quotes(old.socket)
