import itertools
import signal
import threading
import time
from unittest.mock import Mock

import pytest

from confcom.daemon import stall_watchdog
from confcom.daemon.stall_watchdog import SIGNAL, SIGNAL_SECONDS, StallWatchdog
from testkit.conditions import wait_until


@pytest.fixture
def signals():
    """Threads that have run the handler for the watchdog's signal, with one entry for each signal."""
    received = []
    before = signal.signal(SIGNAL, lambda *_: received.append(threading.current_thread()))
    yield received
    signal.signal(SIGNAL, before)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_thread_gets_signals_while_it_is_busy_for_too_long(signals, stalled):
    looks, others = itertools.count(), threading.enumerate()
    watchdog = StallWatchdog(1000.0, 0.0001, clock=lambda: next(looks) * (2000.0 if stalled else 1e-6))
    watchdog.begin()
    wait_until(lambda: next(looks) > 100)
    assert bool(signals) is stalled
    watchdog.end()
    wait_until(lambda: watchdog._clock() <= watchdog._busy_since)
    ended = len(signals)
    seen = next(looks)
    wait_until(lambda: next(looks) > seen + 10)
    assert len(signals) <= ended + 1
    watchdog.stop()
    wait_until(lambda: set(threading.enumerate()) <= set(others))


def test_in_a_long_stall_signals_come_less_often(monkeypatch):
    sent, others = Mock(), threading.enumerate()
    monkeypatch.setattr(stall_watchdog.signal, "pthread_kill", sent)
    monkeypatch.setattr(stall_watchdog, "MANY_SIGNALS", 3)
    monkeypatch.setattr(stall_watchdog, "LOOP_STALL_SECONDS", 3600.0)
    watchdog = StallWatchdog(-1.0, 0.0001)
    watchdog.begin()
    wait_until(lambda: sent.call_count == 3)
    time.sleep(20 * SIGNAL_SECONDS)
    assert sent.call_count == 3
    watchdog.stop()
    wait_until(lambda: set(threading.enumerate()) <= set(others))
