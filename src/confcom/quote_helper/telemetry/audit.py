"""The audit file: a JSON line for every answer, appended by a thread of its own, so that a slow disk delays nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from confcom.daemon.logs import LogLimiter
from confcom.errors import OutputError
from confcom.quote_helper.telemetry.answer_record import AnswerRecord
from confcom.quote_helper.telemetry.audit_file import AuditFile

_logger = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
"""Records that wait for the disk: about a second of as many answers as one helper can give, and some megabytes. What
comes beyond is dropped and counted."""
BATCH_RECORDS: Final = 500
"""Records that are written by one call. Formatting them takes about 3 ms (measured), less than Python lets one thread
hold up another (5 ms)."""
BATCH_SECONDS: Final = 0.05
"""How long records are gathered: to wake the thread for each one costs more than the record itself."""
RETRY_SECONDS: Final = 1.0
"""After a failure to write: a full disk is not helped by asking more often."""
CLOSE_SECONDS: Final = 2.0
"""For the records that wait at an orderly stop; a disk that hangs does not keep the process from ending."""
TOLD_SECONDS: Final = 60.0
"""At most one log line about a file that cannot be written in this time."""


class AuditLog:
    """Takes records from the event loop, never waits, and counts what is lost.

    Args:
        file: where they go; from here on it belongs to this object's thread.
        registry: for the count of records.
        wall_clock: seconds since the epoch.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        file: AuditFile,
        *,
        registry: CollectorRegistry,
        wall_clock: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        records = Counter(
            "confcom_quote_helper_audit_records",
            "Records for the audit file, written, or dropped because too many waited",
            ["outcome"],
            registry=registry,
        )
        self._written = records.labels("written")
        self._dropped = records.labels("dropped")
        self._file = file
        self._wall_clock = wall_clock
        self._told = LogLimiter(TOLD_SECONDS, clock)
        self._failing = False
        # One thread appends to it and one takes from it, each at its own end: both are atomic.
        self._waiting: deque[tuple[float, AnswerRecord]] = deque()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def add(self, record: AnswerRecord) -> None:
        """Write a record soon."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped.inc()
            return
        self._waiting.append((self._wall_clock(), record))
        if not self._wake.is_set():
            self._wake.set()

    async def close(self) -> None:
        """Write what waits, within CLOSE_SECONDS; nothing may be added afterwards."""
        self._ending.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)
        lost = len(self._waiting)
        if lost:
            self._dropped.inc(lost)
            _logger.error("audit records were lost at the end", extra={"count": lost})

    def _work(self) -> None:
        while not self._ending.is_set():
            self._wake.wait()
            self._ending.wait(BATCH_SECONDS)
            self._wake.clear()
            while self._waiting and (self._write_batch() or not self._ending.wait(RETRY_SECONDS)):
                pass
        while self._waiting and self._write_batch():
            pass
        self._file.close()

    def _write_batch(self) -> bool:
        """Write some of what waits; false if nothing could be written."""
        batch = [self._waiting[index] for index in range(min(BATCH_RECORDS, len(self._waiting)))]
        try:
            written = self._file.append([_line(time, record) for time, record in batch])
        except OutputError as error:
            self._failing = True
            suppressed = self._told.admit()
            if suppressed is not None:
                _logger.error("audit records wait", extra={"error": str(error), "count": len(self._waiting)})  # noqa: TRY400 # a full disk is no bug
            return False
        for _ in range(written):
            self._waiting.popleft()
        self._written.inc(written)
        if self._failing:
            self._failing = False
            _logger.info("the audit file is written again")
        return True


def _line(time: float, record: AnswerRecord) -> bytes:
    moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment} | record.fields()).encode() + b"\n"
