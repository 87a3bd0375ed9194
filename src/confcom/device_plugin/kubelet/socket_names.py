"""The names of our sockets in the kubelet's directory, and what they tell instances of each other.

A name holds what is served, whose plugin it is, which instance of it, and which of the instance's sockets: nothing else
in that directory survives a kubelet's start, and nothing else is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.socket_path import PathState, inspect_path
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.errors import UnavailableError

_DIGEST_LETTERS = 4
"""Of the digest of a name, in hex. Two of a node are alike once in 65,536."""
_KIND_LETTERS = 3
_LETTERS = string.digits + string.ascii_lowercase
_INSTANCE_LETTERS = 3
"""46,656 instances; one that is in use on the node is not taken again."""
_NUMBER_LETTERS = 3
"""46,656 sockets of one instance. Each costs a kubelet restart or the like; then they begin anew."""
INSTANCES = len(_LETTERS) ** _INSTANCE_LETTERS
NAME_BYTES = len("sgx--.sock") + _KIND_LETTERS + 2 * _DIGEST_LETTERS + _INSTANCE_LETTERS + _NUMBER_LETTERS
"""Of a socket's name, whatever is served there: short, for directories of kubelets are long."""
_NAME = re.compile(
    rf"sgx-({'|'.join(kind[:_KIND_LETTERS] for kind in ResourceKind)})-(?P<resource>[0-9a-f]{{{_DIGEST_LETTERS}}})"
    rf"(?P<installation>[0-9a-f]{{{_DIGEST_LETTERS}}})(?P<instance>[0-9a-z]{{{_INSTANCE_LETTERS}}})"
    rf"[0-9a-z]{{{_NUMBER_LETTERS}}}\.sock"
)


@dataclass(frozen=True, slots=True)
class SocketNames:
    """The names that one instance gives.

    Args:
        directory: the kubelet's.
        installation: whose plugin it is.
        instance: `unused_instance` found it.
    """

    directory: Path
    installation: str
    instance: str

    def path(self, resource: Resource, number: int) -> Path:
        """Where the instance serves a resource for the `number`-th time."""
        digests = f"{_digest(resource.name)}{_digest(self.installation)}{self.instance}"
        return self.directory / f"sgx-{resource.kind[:_KIND_LETTERS]}-{digests}{_digits(number, _NUMBER_LETTERS)}.sock"

    def peers(self, resource: Resource) -> PeerInstances:
        """The other instances that serve the same."""
        return PeerInstances(self, _digest(resource.name))


@dataclass(slots=True)
class PeerInstances:
    """Other instances of this installation that serve one resource, while an update overlaps them or is rolled back.

    Up to 1.36 the kubelet knows one plugin for a name, the one that registered last. When that one ends, the resource
    is lost, and an older one that still runs is not told: its stream stays open. So it has to look for itself.
    """

    _names: SocketNames
    _resource: str
    _older: frozenset[Path] = frozenset()
    _alive: frozenset[str] = frozenset()
    _stale: frozenset[str] = frozenset()

    def record_registration(self, own: Path, *, within: float) -> None:
        """We have registered: from here on, only the end of one that registers later concerns us.

        Args:
            own: our socket.
            within: seconds that a Register may take. A socket that is older than ours by more is of one that had
                registered before: whoever registers again does so with a new socket, but for the latest one.
        """
        latest = _bound_at(own) - within
        self._older = frozenset(path for path, _ in self._sockets() if _bound_at(path) < latest)
        self._alive, self._stale = self._look()

    def any_ended(self) -> bool:
        """Whether one that may have registered after us is gone since the last look."""
        alive, stale = self._look()
        ended = (self._alive - alive) | (stale - alive - self._stale)
        self._alive, self._stale = alive, stale
        return bool(ended)

    def any_alive(self) -> bool:
        """Whether there is one now, whenever it registered."""
        return any(_state(path) is PathState.LIVE for path, _ in self._sockets())

    def _look(self) -> tuple[frozenset[str], frozenset[str]]:
        """Which are served somewhere, and which have left sockets that nobody serves."""
        alive, stale = set(), set()
        for path, instance in self._sockets():
            if path in self._older:
                continue
            match _state(path):
                case PathState.LIVE | None:
                    alive.add(instance)
                case PathState.STALE:
                    stale.add(instance)
        return frozenset(alive), frozenset(stale)

    def _sockets(self) -> Iterator[tuple[Path, str]]:
        mine = (self._resource, _digest(self._names.installation))
        for path, found in _our_sockets(self._names.directory):
            if (found["resource"], found["installation"]) == mine and found["instance"] != self._names.instance:
                yield path, found["instance"]


def unused_instance(directory: Path, random_below: Callable[[int], int]) -> str:
    """A mark that no socket in the directory has.

    gRPC silently takes over a live socket's path, so two instances must never meet in a name.

    Args:
        directory: the kubelet's.
        random_below: a random number from 0 to below its argument.
    """
    used = {found["instance"] for _, found in _our_sockets(directory)}
    while (instance := _digits(random_below(INSTANCES), _INSTANCE_LETTERS)) in used:
        pass
    return instance


def refuse_second_plugin(directory: Path, resources: Iterable[Resource], installation: str) -> None:
    """Let nobody start beside a plugin of another installation that serves one of the same resources.

    The kubelet would take the later one for the earlier one's successor, hand out the same EPC twice, and lose the
    resource when either ends. An instance of the same installation is the next one of an update.

    Raises:
        UnavailableError: there is such a plugin.
    """
    mine = {_digest(resource.name): resource.name for resource in resources}
    for path, found in _our_sockets(directory):
        foreign = found["resource"] in mine and found["installation"] != _digest(installation)
        if foreign and _state(path) is PathState.LIVE:
            raise UnavailableError(
                f"another device plugin offers {mine[found['resource']]} on this node",
                why=f"{path} answers, and belongs to another installation than {installation!r}",
                remedy="remove one of the two; the next instance of that one has the same --installation",
            )


def remove_stale_sockets(directory: Path) -> list[str]:
    """Remove sockets of ours on which nobody listens: an instance that was killed could not.

    A kubelet clears the directory too, but only when it starts.

    Returns:
        The names of what was removed. What may not be looked at or removed stays.
    """
    removed = []
    for path, _ in _our_sockets(directory):
        if _state(path) is PathState.STALE:
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return removed


def _our_sockets(directory: Path) -> list[tuple[Path, re.Match[str]]]:
    """What is named as sockets of this program are, of any installation; nothing if it may not be looked at."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return []
    return [(path, found) for path in paths if (found := _NAME.fullmatch(path.name))]


def _state(path: Path) -> PathState | None:
    """What is there, or None if it may not be looked at."""
    try:
        return inspect_path(path)
    except UnavailableError:
        return None


def _bound_at(path: Path) -> float:
    """When a socket was made, by the file system's clock; one that is gone, long ago."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LETTERS]


def _digits(number: int, letters: int) -> str:
    found = ""
    for _ in range(letters):
        number, digit = divmod(number, len(_LETTERS))
        found = _LETTERS[digit] + found
    return found
