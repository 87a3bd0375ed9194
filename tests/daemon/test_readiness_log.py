import asyncio

import pytest

from confcom.daemon import readiness_log
from confcom.daemon.readiness_log import REPEAT_SECONDS, NotReady, ReadinessLog


async def test_a_reason_is_logged_again_after_its_own_pause(monkeypatch):
    """Earlier checks, before a reason appeared, do not change when the reason is logged again."""
    now, lines = 0.0, []
    log = ReadinessLog(NotReady("starting", code="s"), lambda: now)
    later = {100.0: lambda: log.tell(NotReady("away", code="device-away")), 200.0: lambda: log.tell(None)}

    async def sleep(seconds):
        nonlocal now
        assert seconds > 0
        wakes = now + seconds
        for moment in [moment for moment in later if moment <= wakes]:
            now = moment
            later.pop(moment)()
        now = wakes
        if now > 3600:
            raise asyncio.CancelledError

    def logged(level, message, extra):
        lines.append((now, extra.get("reason"), extra.get("code")))

    monkeypatch.setattr(readiness_log.asyncio, "sleep", sleep)
    monkeypatch.setattr(readiness_log._logger, "log", logged)
    monkeypatch.setattr(readiness_log._logger, "info", lambda message, extra: logged(0, message, extra))
    with pytest.raises(asyncio.CancelledError):
        await log.repeat()
    starting = [(30.0 * number, "starting", "s") for number in (1, 2, 3)]
    away = [(100.0 + number * REPEAT_SECONDS, "away", "device-away") for number in range(4)]
    assert lines == [*starting, *away, (200.0, None, None)]
