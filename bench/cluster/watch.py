"""What happens to objects of the API, with the moments at which it was told here.

The API's own times are whole seconds; a watch tells of a change when it is made.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from confcom.errors import UnavailableError
from e2e.cluster import Cluster

WATCH_SECONDS = 3600
"""For which the API server is asked to keep a watch: longer than any measurement."""
SYNC_SECONDS = 30.0
"""For a watch to tell of something that is there already."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch.

    Args:
        at: when it was told, by CLOCK_MONOTONIC, in seconds.
        kind: ADDED, MODIFIED or DELETED.
        changed: the object, as it is then.
    """

    at: float
    kind: str
    changed: dict[str, Any]


class Listener(Protocol):
    """Who is told of changes, by a thread of its own."""

    def tell(self, change: Change) -> None:
        """Another one."""

    def end(self, said: str) -> None:
        """There will be no more; says why."""


@dataclass(slots=True)
class Watch:
    """All changes so far, in order."""

    _changes: list[Change] = field(default_factory=list)
    _more: threading.Condition = field(default_factory=threading.Condition)
    _ended: str = ""

    def tell(self, change: Change) -> None:
        """Another one."""
        with self._more:
            self._changes.append(change)
            self._more.notify_all()

    def end(self, said: str) -> None:
        """There will be no more."""
        with self._more:
            self._ended = said or "it said nothing"
            self._more.notify_all()

    def wait(self, found: Callable[[Sequence[Change]], T | None], what: str, *, seconds: float) -> T:
        """Look at the changes again at each new one, until something is found in them."""
        deadline = time.monotonic() + seconds
        with self._more:
            while True:
                answer = found(self._changes)
                if answer is not None:
                    return answer
                if self._ended:
                    raise UnavailableError(f"{what}: the watch ended", why=self._ended)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise UnavailableError(f"{what}: not within {seconds:.0f} s", why="the watch told of nothing such")
                self._more.wait(left)


@contextmanager
def watching(cluster: Cluster, path: str, query: str = "") -> Iterator[Watch]:
    """Watch a collection of the API, from what is there now; what is there comes first, as ADDED."""
    watch = Watch()
    with telling(watch, cluster, path, query):
        yield watch


@contextmanager
def telling(listener: Listener, cluster: Cluster, path: str, query: str = "") -> Iterator[None]:
    """Tell somebody what a watch tells, as it comes; nothing of it is kept here."""
    url = f"{path}?watch=1&timeoutSeconds={WATCH_SECONDS}" + (f"&{query}" if query else "")
    process = subprocess.Popen(
        cluster.node.entering(["kubectl", "get", "--raw", url]),
        env={**os.environ, **cluster.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # nsenter's child must end with it
    )
    reader = threading.Thread(target=_read, args=(process, listener))
    reader.start()
    try:
        yield
    finally:
        end_group(process)
        reader.join()


def end_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End nsenter and its child, if they have not ended: both are of a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def _read(process: subprocess.Popen[str], listener: Listener) -> None:
    if process.stdout is None or process.stderr is None:
        raise ValueError("the process was started without pipes")
    with process.stdout, process.stderr:
        for line in process.stdout:
            event = json.loads(line)
            listener.tell(Change(time.monotonic(), event["type"], event["object"]))
        listener.end(process.stderr.read().strip())
