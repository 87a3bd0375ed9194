"""A log stream that never blocks: its queue is bounded, and dropped records are counted.

stderr is a pipe in a container, and a write to a full pipe blocks until somebody reads. Here a thread writes, and the
caller only queues. Of the standard library, QueueHandler is not enough: its queue is bounded in records and not in
bytes, QueueListener waits for its thread without a timeout, and neither takes what is written to stderr itself.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Final, TextIO

from prometheus_client import Counter

_logger = logging.getLogger(__name__)

MAX_WAITING_BYTES: Final = 1 << 20
"""Maximum size of the queue. 1 MiB is less than a hundredth of each daemon's memory limit in the chart (128 MiB for the
device plugin) and holds about 2,000 lines."""
RECORD_BYTES: Final = 100
"""What a record costs beside its text, so that short ones cannot use much more space."""
MAX_RECORD_CHARACTERS: Final = 16 << 10
"""A longer record is cut. It then has at most 64 KiB, a sixteenth of the queue, so one record always fits into an empty
queue. A daemon's line with a traceback has a few KiB."""
CUT_MARK: Final = "... (cut)\n"
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

    While the queue is full, records are dropped; a line reports how many when the queue is empty again. A record that
    cannot be written (a closed pipe, a full disk) is dropped too.

    Args:
        stream: where the records go. If it has a descriptor, records are written to the descriptor, without the
            stream's own lock: the interpreter takes this lock when it exits, and would wait for a blocked write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self._encoding = stream.encoding or "utf-8"
        self._write_bytes = _writer_to(stream, self._encoding)
        # Reentrant, as SimpleQueue is: a destructor may write to stderr at any time.
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._carried = b""
        """A record that did not fit into the last chunk."""
        self._waiting_bytes = 0
        self._ending = threading.Event()
        self._unreported = 0
        about = "Log records dropped because stderr was blocked or not writable"
        self.dropped = Counter("confcom_log_records_dropped", about, registry=None)
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
        return self._terminal

    def writable(self) -> bool:
        """Return True: this stream can always be written."""
        return True

    def write(self, text: str) -> int:
        """Queue a record, or drop it; never wait."""
        whole = text if len(text) <= MAX_RECORD_CHARACTERS else text[:MAX_RECORD_CHARACTERS] + CUT_MARK
        record = whole.encode(self._encoding, "backslashreplace")
        with self._lock:
            if self._waiting_bytes + len(record) + RECORD_BYTES > MAX_WAITING_BYTES:
                self._drop(1)
            elif record:
                self._waiting_bytes += len(record) + RECORD_BYTES
                self._queue.put(record)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes records as soon as it can."""

    def finish(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until the queue is written, for at most `seconds`; later records are lost."""
        self._ending.set()
        self._queue.put(b"")
        self._thread.join(seconds)

    def _work(self) -> None:
        while chunk := self._next_chunk():
            written, lost = self._write_whole(b"".join(chunk)), 0
            with self._lock:
                self._waiting_bytes -= sum(len(record) + RECORD_BYTES for record in chunk)
                if not written:
                    self._drop(len(chunk))
                elif not self._waiting_bytes:
                    lost, self._unreported = self._unreported, 0
            if lost:
                _logger.warning("log records were dropped", extra={"event": "log-records-dropped", "count": lost})
            self._ending.wait(GATHER_SECONDS)

    def _drop(self, count: int) -> None:
        self._unreported += count
        self.dropped.inc(count)

    def _next_chunk(self) -> list[bytes]:
        """Return the records to write next together; an empty list once the stream has ended."""
        chunk = [self._carried] if self._carried else []
        self._carried = b""
        try:
            while sum(map(len, chunk)) < CHUNK_BYTES:
                record = self._queue.get(block=not chunk and not self._ending.is_set())
                if chunk and sum(map(len, chunk)) + len(record) > CHUNK_BYTES:
                    self._carried = record
                    break
                chunk += [record] if record else []
        except queue.Empty:
            pass
        return chunk

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
            # Another process with the same pipe has made it non-blocking.
            select.select([], [descriptor], [])
            return 0

    return write
