"""The audit log: a JSON line for every answer, written by its own thread, so that a slow disk delays no client."""

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
"""Records that may wait for the disk: about a second of answers at a helper's highest rate, and a few megabytes.
Further records are dropped and counted."""
BATCH_RECORDS: Final = 500
"""Records per write call. Formatting them takes about 3 ms (measured), less than the interpreter's switch interval of
5 ms, for which one thread may hold up another."""
BATCH_SECONDS: Final = 0.05
"""How long records are gathered into a batch: waking the thread for each record costs more than the record itself."""
RETRY_SECONDS: Final = 1.0
"""Wait after a failed write: trying more often does not help with a full disk."""
CLOSE_SECONDS: Final = 2.0
"""For writing the waiting records at an orderly stop; a hanging disk does not keep the process from ending."""
FAILURE_LOG_SECONDS: Final = 60.0
"""At most one log line in this time about a file that cannot be written."""


class AuditLog:
    """Takes records from the event loop without blocking, writes them in a thread, and counts those that are lost.

    Args:
        file: the file to append to; used only by this object's thread from here on.
        registry: where the counter of records is registered.
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
            "Records for the audit file: written, or dropped because too many were waiting",
            ["outcome"],
            registry=registry,
        )
        self._written = records.labels("written")
        self._dropped = records.labels("dropped")
        self._file = file
        self._wall_clock = wall_clock
        self._failure_log = LogLimiter(FAILURE_LOG_SECONDS, clock)
        self._failing = False
        # The event loop appends at one end, the thread takes from the other; both operations are atomic.
        self._waiting: deque[tuple[float, AnswerRecord]] = deque()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def add(self, record: AnswerRecord) -> None:
        """Queue a record for writing, or drop and count it if MAX_WAITING are queued."""
        if len(self._waiting) >= MAX_WAITING:
            self._dropped.inc()
            return
        self._waiting.append((self._wall_clock(), record))
        if not self._wake.is_set():
            self._wake.set()

    async def close(self) -> None:
        """Write the waiting records, within CLOSE_SECONDS; nothing may be added afterwards."""
        self._ending.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_SECONDS)
        lost = len(self._waiting)
        if lost:
            self._dropped.inc(lost)
            _logger.error("audit records were lost at the end", extra={"event": "audit-records-lost", "count": lost})

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
        """Write up to BATCH_RECORDS waiting records; return whether any could be written."""
        batch = [self._waiting[index] for index in range(min(BATCH_RECORDS, len(self._waiting)))]
        try:
            written = self._file.append([_line(time, record) for time, record in batch])
        except OutputError as error:
            self._failing = True
            suppressed = self._failure_log.admit()
            if suppressed is not None:
                fields = {"event": "audit-records-wait", "error": str(error), "count": len(self._waiting)}
                _logger.error("the audit file cannot be written; records are waiting", extra=fields)  # noqa: TRY400 # a full disk is not a bug
            return False
        for _ in range(written):
            self._waiting.popleft()
        self._written.inc(written)
        if self._failing:
            self._failing = False
            _logger.info("the audit file can be written again")
        return True


def _line(time: float, record: AnswerRecord) -> bytes:
    moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment} | record.fields()).encode() + b"\n"
