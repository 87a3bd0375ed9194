"""Parsing logs: why a daemon is not ready, and how a program ended. Pure.

A daemon's log also contains lines that its clients cause, such as one about a malformed request. Any process on a node
can cause such a line, so none of them counts as the reason why a daemon is not ready.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject

ABOUT, READINESS = "about", "readiness"
"""The key and the value that only log lines about the daemon's own readiness have (confcom.daemon.readiness_log)."""
_ERROR, _ERROR_LINES = "Error: ", 3
"""The first words and the number of lines of our programs' final error: what, why, what to do
(confcom.errors.explain)."""
_LEVELS = re.compile(rf'^{_ERROR}|\b(WARNING|ERROR|CRITICAL)\b|"level": ?"(warning|error|critical)"')
_TEXT_RECORD = re.compile(r"\d\d:\d\d:\d\d (debug|info|warning|error|critical)\b")
"""The beginning of a log line in the terminal format, which does not contain the ABOUT key."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a Pod is not ready, as far as it is known."""

    text: str = ""
    code: str = ""
    """The code that the daemon logged with it; empty if it ended."""


def own_reason(log: str) -> Reason:
    """Return why a daemon is not ready, or how it ended; empty if its log says neither.

    The reason is the last of these: a line about its readiness; the error that it ended with; a line that is not a log
    record, such as the end of a traceback.
    """
    lines = log.splitlines()
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index].strip()
        record = _record(line)
        if record is not None:
            if record.get(ABOUT) == READINESS:
                return Reason(str(record.get("reason") or ""), str(record.get("code") or ""))
        elif line.startswith(_ERROR):
            return Reason(_ending(lines, index))
        elif line and not _is_cut_record(line) and not _is_of_an_error(lines, index):
            return Reason(line)
    return Reason()


def last_complaint(log: str) -> str:
    """Return the last warning or error in the log of a program without clients, or the error that it ended with."""
    lines = log.splitlines()
    telling = [index for index, line in enumerate(lines) if _LEVELS.search(line)]
    if not telling:
        return ""
    line = lines[telling[-1]]
    return _ending(lines, telling[-1]) if line.startswith(_ERROR) else _plain(line)


def _ending(lines: Sequence[str], index: int) -> str:
    return " ".join(line.strip() for line in lines[index : index + _ERROR_LINES])


def _is_of_an_error(lines: Sequence[str], index: int) -> bool:
    """Return whether a line is the second or third line of an error, which is reported as a whole."""
    return any(line.startswith(_ERROR) for line in lines[max(0, index - _ERROR_LINES + 1) : index])


def _is_cut_record(line: str) -> bool:
    """Return whether a line is a record in the terminal format, or the end of a JSON record that was cut off."""
    return line.endswith("}") or _TEXT_RECORD.match(line) is not None


def _record(line: str) -> KubernetesObject | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "message" in record else None


def _plain(line: str) -> str:
    record = _record(line)
    if record is None:
        return line.strip()
    extra = [str(record[key]) for key in ("reason", "error", "problem") if record.get(key)]
    return ": ".join([str(record["message"]), *extra])
