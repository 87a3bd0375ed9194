"""The log of the kubelet's device manager (at --v=2), parsed into events: how a kubelet sees a plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIST_PROCESSED = "Processed device updates for resource"
LOST = "Mark all resources Unhealthy for resource"

_LINE = re.compile(r'^[IWEF]\d{4} [0-9:.]+ +\d+ [^\]]+\] "(?P<message>[^"]*)"(?P<rest>.*)')
_VALUE = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True, slots=True)
class Event:
    message: str
    values: dict[str, str]


def parse(text: str) -> Iterator[Event]:
    """Parse the events in a part of the log; skip lines of other forms."""
    for line in text.splitlines():
        if found := _LINE.match(line):
            values = {name: quoted or plain for name, quoted, plain in _VALUE.findall(found["rest"])}
            yield Event(found["message"], values)


@dataclass(slots=True)
class KubeletLog:
    """The kubelet's log from a marked moment on; every start of the kubelet appends to it."""

    path: Path
    _from: int = 0

    def mark(self) -> None:
        self._from = self.path.stat().st_size

    def events(self) -> list[Event]:
        with self.path.open("rb") as file:
            file.seek(self._from)
            return list(parse(file.read().decode(errors="replace")))

    def lists(self, resource: str) -> list[Event]:
        """Non-empty lists of a resource's devices that the kubelet has processed since the marked moment."""
        return [
            event
            for event in self.events()
            if event.message == LIST_PROCESSED
            and event.values.get("resourceName") == resource
            and event.values.get("healthyCount") != "0"
        ]
