"""What the kubelet's device manager logs (at --v=2), as events with times: the kubelet's own view of a plugin."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVING = "Starting device plugin registration server"
"""Before it clears the directory and listens at kubelet.sock."""
LIST_PROCESSED = "Processed device updates for resource"
LOST = "Mark all resources Unhealthy for resource"

_LINE = re.compile(
    r"^[IWEF]\d{4} (?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d\.\d+) +\d+ [^\]]+\] "
    r'"(?P<message>[^"]*)"(?P<rest>.*)'
)
_VALUE = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log, at this second of the day."""

    seconds: float
    message: str
    values: dict[str, str]

    def ago(self, now: float) -> float:
        """Seconds before a moment, in seconds of the day, less than a day later."""
        return (now - self.seconds) % _DAY_SECONDS

    def after(self, earlier: Event) -> float:
        """Seconds since another event, less than a day ago."""
        return (self.seconds - earlier.seconds) % _DAY_SECONDS


def seconds_of_day(moment: float) -> float:
    """The kubelet's time of a moment, which is given in seconds since 1970."""
    local = time.localtime(moment)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + moment % 1


def parse(text: str) -> Iterator[Event]:
    """The events in a piece of the log; lines of other forms are passed over."""
    for line in text.splitlines():
        if found := _LINE.match(line):
            seconds = int(found["hours"]) * 3600 + int(found["minutes"]) * 60 + float(found["seconds"])
            values = {name: quoted or plain for name, quoted, plain in _VALUE.findall(found["rest"])}
            yield Event(seconds, found["message"], values)


@dataclass(slots=True)
class KubeletLog:
    """The log from a moment on; every start of the kubelet appends to it."""

    path: Path
    _from: int = 0

    def mark(self) -> None:
        """What is there now is past."""
        self._from = self.path.stat().st_size

    def events(self) -> list[Event]:
        """What was logged since the mark."""
        with self.path.open("rb") as file:
            file.seek(self._from)
            return list(parse(file.read().decode(errors="replace")))

    def losses(self, resource: str) -> list[tuple[Event, Event]]:
        """When the kubelet lost a resource since the mark, and when it had its devices again."""
        lost: Event | None = None
        found = []
        for event in self.events():
            if event.values.get("resourceName") != resource:
                continue
            if event.message == LOST:
                lost = lost or event
            elif lost is not None and event.message == LIST_PROCESSED and event.values.get("healthyCount") != "0":
                found.append((lost, event))
                lost = None
        return found

    def lists(self, resource: str) -> list[Event]:
        """The lists of a resource that the kubelet has processed since the mark, without those that have no device."""
        return [
            event
            for event in self.events()
            if event.message == LIST_PROCESSED
            and event.values.get("resourceName") == resource
            and event.values.get("healthyCount") != "0"
        ]
