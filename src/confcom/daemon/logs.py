"""Logs of a daemon: the standard logging module, one line per event on stderr, JSON for machines.

Callers pass fields by logging's own `extra={...}`. They log identities and counts, never secrets such as report data or
keys.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from confcom.daemon.log_stream import LogStream
from confcom.errors import printable

EVENT = "event"
"""The extra field that tells programs which event a line is about; its message is for people and may be reworded."""

_TO_JSON = json.JSONEncoder(default=str, ensure_ascii=False).encode
"""As json.dumps with these arguments, which would make a new encoder for each line."""
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogLevel(StrEnum):
    """The least severe records that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    AUTO = "auto"
    """Text when stderr is a terminal, else JSON."""
    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC, ISO 8601, milliseconds), level, logger, message, then the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; an exception becomes the field `exception`."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_extra(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _TO_JSON(line)


class TextFormatter(logging.Formatter):
    """One line of text for a terminal: time, level, message, extra fields but EVENT as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one printable line, followed by the traceback if there is one."""
        fields = "".join(f"  {key}={value}" for key, value in _extra(record).items() if key != EVENT)
        clock = _time(record)[11:19]
        text = f"{clock} {record.levelname.lower():7} {record.getMessage()}{fields}"
        text = printable(text)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(*, level: str, log_format: LogFormat, stream: TextIO | LogStream) -> None:
    """Send the root logger's records to `stream`, in place of all earlier handlers."""
    as_text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_ATTRIBUTES}


class LogLimiter:
    """A rate limiter: admits one event per interval and counts the others, so that no peer can fill a disk."""

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
