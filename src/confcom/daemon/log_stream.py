"""A log stream that never blocks: its queue is bounded, and dropped records are counted.

stderr is a pipe in a container, and a write to a full pipe blocks until somebody reads. Here a thread writes, and the
caller only queues. The standard library's QueueListener is not used: its queue is bounded in records and not in bytes,
and its `stop` waits for its thread without a timeout.
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
"""Maximum size of the queue. 1 MiB is less than a hundredth of each daemon's memory limit in the chart (128 MiB for the
device plugin) and holds about 2,500 lines."""
MAX_WAITING_RECORDS: Final = 4096
"""Maximum records in the queue. Each costs about 50 bytes beside its text, so short ones cannot use much more space."""
MAX_RECORD_BYTES: Final = 64 << 10
"""A longer record is cut. 64 KiB is the capacity of a pipe (pipe(7)) and a sixteenth of the queue, so one record always
fits into an empty queue. A daemon's line with a traceback has a few KiB."""
CUT_MARK: Final = "... (cut)"
CHUNK_BYTES: Final = select.PIPE_BUF
"""Maximum size of the whole records that one call writes together. The kernel writes up to PIPE_BUF bytes to a pipe
atomically (pipe(7)), so lines of two processes are never mixed. A longer record is written alone."""
GATHER_SECONDS: Final = 0.002
"""How long the thread waits after a write, so that lines in quick succession are written together: waking a thread for
a line costs more than writing it. A single line is written at once."""
FLUSH_SECONDS: Final = 1.0
"""Time to write the last lines when the daemon ends. An active reader needs milliseconds; an inactive one must not
delay the daemon beyond the kubelet's termination grace period."""


class LogStream(io.TextIOBase):
    """A text stream that a thread copies to another one; each `write` is one record.

    Once the queue is full, records are dropped until it is half empty; then one line reports how many were dropped. A
    record that cannot be written (a closed pipe, a full disk) is dropped too.

    Args:
        stream: where the records go. If it has a descriptor, records are written to the descriptor, without the
            stream's own lock: the interpreter takes this lock when it exits, and would wait for a blocked write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self._encoding = stream.encoding or "utf-8"
        self._write_bytes = _writer_to(stream, self._encoding)
        # Reentrant: a destructor may write to stderr at any time, also in the thread that holds the lock.
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
        """Number of records that were dropped since the start."""
        return self._dropped

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
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
                # Only a removal from the queue ends dropping, and nothing is removed from an empty queue.
                self._dropping = bool(self._waiting)
                self._dropped += 1
            else:
                self._waiting.append(record)
                self._waiting_bytes += len(record)
                if self._idle:
                    self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes records as soon as it can."""

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until the queue is written, for at most `seconds`; later records are lost."""
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
        # "ignore" drops a character that the cut divides.
        return start.decode(self._encoding, "ignore").encode(self._encoding) + ending

    def _work(self) -> None:
        while chunk := self._next_chunk():
            written = self._write_whole(b"".join(chunk))
            lost = self._remove(chunk, written=written)
            if lost:
                _logger.warning("log records were dropped", extra={"event": "log-records-dropped", "count": lost})
            self._wait_for_more()

    def _next_chunk(self) -> list[bytes]:
        """Return the records to write next, which stay in the queue; an empty list once the stream has ended."""
        with self._changed:
            self._reporting = False
            self._changed.notify_all()
            self._idle = True
            self._changed.wait_for(lambda: self._waiting or self._ending)
            self._idle = False
            chunk: list[bytes] = []
            size = 0
            # By index: a destructor may append meanwhile, which would invalidate an iterator.
            for index in range(len(self._waiting)):
                size += len(self._waiting[index])
                if chunk and size > CHUNK_BYTES:
                    break
                chunk.append(self._waiting[index])
            return chunk

    def _wait_for_more(self) -> None:
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

    def _remove(self, chunk: list[bytes], *, written: bool) -> int:
        """Remove a chunk that was written or cannot be; return the number of dropped records to report now."""
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
    """The log's metrics."""

    def __init__(self, stream: LogStream, registry: CollectorRegistry) -> None:
        self._stream = stream
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric with its current value."""
        family = CounterMetricFamily(
            "confcom_log_records_dropped", "Log records dropped because stderr was blocked or not writable"
        )
        family.add_metric([], self._stream.dropped)
        yield family

    describe = collect
    """The registry learns the name from it."""


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
            # Another process with the same pipe has made it non-blocking.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
            return 0

    return write
