"""Logs of a daemon with the standard logging module: one line per event on stderr, as JSON for machines.

Callers pass fields with logging's own `extra={...}`. Callers log identities and counts, never secrets such as
report data or keys.

In a container, stderr is a pipe, and a write to a full pipe blocks until the reader reads. So a thread writes
the records, and callers only queue them. The standard library's QueueHandler is not enough: QueueListener
waits for its thread without a timeout, and neither class queues direct writes to stderr.
"""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import select
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TextIO

from prometheus_client import Counter

from confcom.errors import printable

_logger = logging.getLogger(__name__)

EVENT = "event"
"""The extra field that names a line's event for programs; the line's message is for people and may be reworded."""

_TO_JSON = json.JSONEncoder(default=str, ensure_ascii=False).encode
"""One encoder for all lines: json.dumps with these arguments would make a new encoder for each line."""
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

MAX_WAITING_RECORDS: Final = 1000
"""Maximum number of queued records. Their size is usually 0.4 MB, at most 8 MB (within the memory limit)."""
MAX_RECORD_BYTES: Final = 8 << 10
"""Size limit. A longer record is cut in the middle: its end shows the cause. A traceback takes a few KiB."""
CUT_MARK: Final = b" ... (cut) ... "
RECORDS_PER_WRITE: Final = 64
"""Maximum number of records that one call writes. The interpreter gives a thread beside a busy event loop about 200
turns in a second: 12,800 records, more than quotes. The records of a call and their copy take 1 MB."""
GATHER_SECONDS: Final = 0.002
"""How long the thread waits after a write, so that lines in quick succession are written together: waking a
thread for a line costs more than writing it. A single line is written at once."""
FLUSH_SECONDS: Final = 1.0
"""Time to write the last lines when the daemon ends. An active reader needs milliseconds; an inactive one
must not delay the daemon beyond the kubelet's termination grace period."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JsonFormatter(logging.Formatter):
    """A JSON object per line: time (UTC, ISO 8601, milliseconds), level, logger, message, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _TO_JSON(line)


class TextFormatter(logging.Formatter):
    """One line of text for a terminal: time, level, message, and extra fields except EVENT as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f"  {key}={value}" for key, value in _extra(record).items() if key != EVENT)
        clock = _time(record)[11:19]
        text = printable(f"{clock} {record.levelname.lower():7} {record.getMessage()}{fields}")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(*, level: str, stream: TextIO | LogStream) -> None:
    """Send the root logger's records to `stream`: as text to a terminal, else as JSON. Remove all earlier handlers."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if stream.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_ATTRIBUTES}


class LogLimiter:
    """Admits one event per interval and counts the others, so that no peer can fill a disk with log lines."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._clock = clock
        self._next = float("-inf")
        self._suppressed = 0

    def admit(self) -> int | None:
        """Return None if this event is suppressed, else the number of events suppressed since the last admitted one."""
        now = self._clock()
        if now < self._next:
            self._suppressed += 1
            return None
        self._next = now + self._interval
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class LogStream(io.TextIOBase):
    """A text stream that a thread copies to another stream; each call of `write` is one record.

    While the queue is full, records are dropped; when the queue is empty again, a line reports their number.
    A record that cannot be written (a closed pipe, a full disk) is dropped too. If the other stream has a descriptor,
    its lock is not taken: the exiting interpreter takes this lock, and would wait for a blocked write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self._encoding = stream.encoding or "utf-8"
        self._write_bytes = _writer_to(stream, self._encoding)
        # The queue and the lock are reentrant, since a destructor may write to stderr at any time.
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._lock = threading.RLock()
        self._unreported = 0
        about = "Log records dropped because stderr was blocked or not writable"
        self.dropped = Counter("confcom_log_records_dropped", about, registry=None)
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        """Queue a record, or drop it if the queue is full; never wait."""
        if self._queue.qsize() >= MAX_WAITING_RECORDS:
            self._drop(1)
        elif text:
            record = text.encode(self._encoding, "backslashreplace")
            if len(record) > MAX_RECORD_BYTES:
                half = MAX_RECORD_BYTES // 2
                cut = record[:half] + CUT_MARK + record[-half:]
                record = cut.decode(self._encoding, "ignore").encode(self._encoding)  # halves of characters go
            self._queue.put(record)
        return len(text)

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait at most `seconds` until all queued records are written; later records are lost."""
        self._ending.set()
        self._queue.put(b"")
        self._thread.join(seconds)

    def _work(self) -> None:
        while records := self._take():
            if not self._write_whole(b"".join(records)):
                self._drop(len(records))
            elif self._queue.empty():
                self._report_dropped()
            self._ending.wait(GATHER_SECONDS)
        self._report_dropped()
        self._write_whole(b"".join(self._take()))

    def _take(self) -> list[bytes]:
        """Wait for records; return the records to write next, or an empty list once the stream has ended."""
        try:
            records = [self._queue.get(block=not self._ending.is_set())]
        except queue.Empty:
            return []
        records += [self._queue.get() for _ in range(min(self._queue.qsize(), RECORDS_PER_WRITE - 1))]
        return [record for record in records if record]

    def _drop(self, count: int) -> None:
        with self._lock:
            self._unreported += count
        self.dropped.inc(count)

    def _report_dropped(self) -> None:
        with self._lock:
            lost, self._unreported = self._unreported, 0
        if lost:
            _logger.warning("log records were dropped", extra={"event": "log-records-dropped", "count": lost})

    def _write_whole(self, data: bytes) -> bool:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write_bytes(rest) :]
        except OSError:
            return False
        return True


def _writer_to(stream: TextIO, encoding: str) -> Callable[[memoryview], int]:
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        # A stream in memory, which never blocks.
        return lambda data: len(data) if stream.write(str(data, encoding)) else 0

    def write(data: memoryview) -> int:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            # Another process that shares the pipe has made the pipe non-blocking.
            select.select([], [descriptor], [])
            return 0

    return write
