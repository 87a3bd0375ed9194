"""A log stream that never blocks: what waits for the reader is bounded, and what is dropped is counted.

stderr is a pipe in a container, and a write to a full pipe blocks until somebody reads. Here a thread writes, and the
caller only queues. The standard library's QueueListener is not used: its queue is bounded in records and not in bytes,
and its `stop` waits for its thread without a limit.
"""

from __future__ import annotations

import io
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_logger = logging.getLogger(__name__)

MAX_WAITING_BYTES: Final = 1 << 20
"""What may wait for the reader: 1 MiB is under a hundredth of what the chart lets each daemon use (the device plugin
128 MiB), and some 2,500 lines."""
MAX_WAITING_RECORDS: Final = 4096
"""The same in records. Each costs about 50 bytes beside its text, so that short ones cannot use much more memory."""
MAX_RECORD_BYTES: Final = 64 << 10
"""A longer record is cut: 64 KiB is as much as a pipe holds (pipe(7)), and a sixteenth of what may wait, so that one
record always fits into an empty queue. A line of a daemon with a traceback has a few KiB."""
CUT_MARK: Final = "... (cut)"
"""The end of a record that was cut."""
CHUNK_BYTES: Final = select.PIPE_BUF
"""Whole records that are written by one call, together: what the kernel writes to a pipe undivided (pipe(7)), so that a
line is never mixed with another process' line. A longer record is written alone."""
GATHER_SECONDS: Final = 0.002
"""How long the thread waits after it has written, so that lines that come fast are written together: to wake a thread
for a line costs more than the line. A line that comes alone is written at once."""
FLUSH_SECONDS: Final = 1.0
"""At the end, for the last lines to be written. A reader that reads needs milliseconds; one that does not must not keep
the daemon from ending within the time that a kubelet gives it."""


class LogStream(io.TextIOBase):
    """A text stream that a thread writes to another one; each `write` is one record.

    Once too much waits, records are dropped until half of it is written: then one line tells how many were. A record
    that cannot be written (a closed pipe, a full disk) is dropped too.

    Args:
        stream: where the records go. If it has a descriptor, they are written to that without the stream's own lock:
            the interpreter takes this lock when it ends, and would wait for a write that is blocked.
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self._encoding = stream.encoding or "utf-8"
        self._write_bytes = _writer_to(stream, self._encoding)
        # A lock that the thread that has it may take again: a destructor may write to stderr at any time.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._idle = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropping = False
        self._dropped = 0
        self._reported = 0
        self._reporting = False
        self._ending = False
        threading.Thread(target=self._work, name="log", daemon=True).start()

    @property
    def dropped(self) -> int:
        """Return the number of records that were dropped since the start."""
        return self._dropped

    def isatty(self) -> bool:
        """Say whether the other stream is a terminal."""
        return self._terminal

    def writable(self) -> bool:
        """Return True: this stream can always be written."""
        return True

    def write(self, text: str) -> int:
        """Queue a record, cut to MAX_RECORD_BYTES, or drop it; never wait."""
        record = self._encoded(text)
        with self._lock:
            if (
                self._dropping
                or len(self._waiting) >= MAX_WAITING_RECORDS
                or self._waiting_bytes + len(record) > MAX_WAITING_BYTES
            ):
                # Only what is removed from the queue ends the dropping.
                self._dropping = bool(self._waiting)
                self._dropped += 1
            else:
                self._waiting.append(record)
                self._waiting_bytes += len(record)
                if self._idle:
                    self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: records are written as soon as they can be."""

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything is written, at most so long; what is written to this stream afterwards is lost."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._reporting, seconds)

    def _encoded(self, text: str) -> bytes:
        record = text.encode(self._encoding, "backslashreplace")
        if len(record) <= MAX_RECORD_BYTES:
            return record
        ending = (CUT_MARK + "\n" * text.endswith("\n")).encode(self._encoding)
        start = record[: MAX_RECORD_BYTES - len(ending)]
        # A character that the cut divides is left out.
        return start.decode(self._encoding, "ignore").encode(self._encoding) + ending

    def _work(self) -> None:
        while chunk := self._next_chunk():
            written = self._write_whole(b"".join(chunk))
            lost = self._forget(chunk, written=written)
            if lost:
                _logger.warning("log records were dropped", extra={"count": lost})
            self._gather()

    def _next_chunk(self) -> list[bytes]:
        """Return the records to write next, which stay in the queue; none: the stream has ended."""
        with self._changed:
            self._reporting = False
            self._changed.notify_all()
            self._idle = True
            self._changed.wait_for(lambda: self._waiting or self._ending)
            self._idle = False
            chunk: list[bytes] = []
            size = 0
            # By index: a destructor may append meanwhile, which ends an iterator.
            for index in range(len(self._waiting)):
                size += len(self._waiting[index])
                if chunk and size > CHUNK_BYTES:
                    break
                chunk.append(self._waiting[index])
            return chunk

    def _gather(self) -> None:
        """Let more records come, unless there is enough of them for a write."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending or self._waiting_bytes >= CHUNK_BYTES, GATHER_SECONDS)

    def _write_whole(self, data: bytes) -> bool:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write_bytes(rest) :]
        except OSError:
            return False
        return True

    def _forget(self, chunk: list[bytes], *, written: bool) -> int:
        """Remove what was written or cannot be; return the number of dropped records to report now."""
        with self._changed:
            for record in chunk:
                self._waiting.popleft()
                self._waiting_bytes -= len(record)
            if not written:
                self._dropped += len(chunk)
            if self._waiting_bytes <= MAX_WAITING_BYTES // 2 and len(self._waiting) <= MAX_WAITING_RECORDS // 2:
                self._dropping = False
            lost = 0
            if written and not self._dropping:
                lost, self._reported = self._dropped - self._reported, self._dropped
            self._reporting = lost > 0
            return lost


class LogMetrics(Collector):
    """What a scraper is told of the log.

    Args:
        stream: whose records are counted.
        registry: where the metric is registered.
    """

    def __init__(self, stream: LogStream, registry: CollectorRegistry) -> None:
        self._stream = stream
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Yield the metric without a value, so that the registry knows its name."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """Yield the metric with its present value."""
        family = self._family()
        family.add_metric([], self._stream.dropped)
        yield family

    @staticmethod
    def _family() -> CounterMetricFamily:
        return CounterMetricFamily(
            "confcom_log_records_dropped", "Log records that were dropped because stderr was not read, or not writable"
        )


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
            # Another process that has the same pipe has made it non-blocking.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
            return 0

    return write
