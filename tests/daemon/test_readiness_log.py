"""What a daemon logs about its own readiness, and when it logs it again."""

import asyncio

import pytest

from confcom.daemon import readiness_log
from confcom.daemon.readiness_log import REPEAT_SECONDS, ReadinessLog


class Time:
    """A clock that only `sleep` moves, for at most an hour."""

    def __init__(self):
        self.now = 0.0
        self.later = {}
        """What happens meanwhile, by the time at which it does."""

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds > 0
        wakes = self.now + seconds
        for moment in sorted(moment for moment in self.later if moment <= wakes):
            self.now = moment
            self.later.pop(moment)()
        self.now = wakes
        if self.now > 3600:
            raise asyncio.CancelledError


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(readiness_log.asyncio, "sleep", time.sleep)
    return time


@pytest.fixture
def log(time):
    return ReadinessLog("starting", time)


@pytest.fixture
def logged(time, caplog, monkeypatch):
    """The times of all lines, with the reason and its code."""
    caplog.set_level("INFO")
    lines = []

    def handle(record):
        lines.append((time.now, getattr(record, "reason", None), getattr(record, "code", None)))

    monkeypatch.setattr(readiness_log._logger, "handle", handle)
    return lines


async def test_a_reason_is_logged_again_after_its_own_pause(time, log, logged):
    """Whatever the rhythm in which it is looked at before the reason comes."""
    time.later = {100.0: lambda: log.tell("away", code="device-away"), 200.0: lambda: log.tell(None)}
    with pytest.raises(asyncio.CancelledError):
        await log.repeat()
    starting = [(30.0 * number, "starting", None) for number in (1, 2, 3)]
    away = [(100.0 + number * REPEAT_SECONDS, "away", "device-away") for number in range(4)]
    assert logged == [*starting, *away, (200.0, None, None)]
