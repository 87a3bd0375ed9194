"""The names of our sockets in the kubelet's directory, by which the plugin's instances find each other.

A name contains the resource, the installation, the instance, and a number for the instance's socket.
Instances exchange no other data, and need no cleanup: a kubelet clears the directory when it starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.socket_path import PathState, inspect_socket
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.errors import UnavailableError

_DIGEST_LETTERS = 4
"""Hex digits of a name's digest. The digests of two names are equal with a probability of 1 in 65,536."""
_KIND_LETTERS = 3
_LETTERS = string.digits + string.ascii_lowercase
_INSTANCE_LETTERS = 3
"""46,656 instances; an instance never chooses an identifier that is in use on the node."""
_NUMBER_LETTERS = 3
"""46,656 sockets per instance before numbers repeat; a new socket is needed after a kubelet restart, say."""
INSTANCES = len(_LETTERS) ** _INSTANCE_LETTERS
NAME_BYTES = len("sgx--.sock") + _KIND_LETTERS + 2 * _DIGEST_LETTERS + _INSTANCE_LETTERS + _NUMBER_LETTERS
"""Length of every socket name. Names are short because the kubelet's directory may have a long path."""
_NAME = re.compile(
    rf"sgx-({'|'.join(kind[:_KIND_LETTERS] for kind in ResourceKind)})-(?P<resource>[0-9a-f]{{{_DIGEST_LETTERS}}})"
    rf"(?P<installation>[0-9a-f]{{{_DIGEST_LETTERS}}})(?P<instance>[0-9a-z]{{{_INSTANCE_LETTERS}}})"
    rf"[0-9a-z]{{{_NUMBER_LETTERS}}}\.sock"
)


@dataclass(frozen=True, slots=True)
class SocketNames:
    directory: Path
    installation: str
    instance: str

    def path(self, resource: Resource, number: int) -> Path:
        identity = f"{_digest(resource.name)}{_digest(self.installation)}{self.instance}"
        return self.directory / f"sgx-{resource.kind[:_KIND_LETTERS]}-{identity}{_digits(number, _NUMBER_LETTERS)}.sock"

    def has_sockets_of(self, resource_name: str) -> bool:
        """Return whether a resource has a socket of our installation (perhaps left by a killed instance)."""
        mine = (_digest(resource_name), _digest(self.installation))
        return any((found["resource"], found["installation"]) == mine for _, found in _our_sockets(self.directory))

    def peers(self, resource: Resource) -> PeerInstances:
        return PeerInstances(self, _digest(resource.name))


@dataclass(slots=True)
class PeerInstances:
    """The installation's other instances that serve the resource during an update or a rollback.

    Up to 1.36, the kubelet knows one plugin per resource: the plugin that registered last. When the last
    registered instance ends, the kubelet loses the resource. An older instance does not notice the loss,
    because its stream stays open. Each instance therefore has to detect the end of the other instances.
    """

    _names: SocketNames
    _resource: str
    _older: frozenset[Path] = frozenset()
    _alive: frozenset[str] = frozenset()
    _stale: frozenset[str] = frozenset()

    def record_registration(self, own: Path, *, within: float) -> None:
        """Record that we have registered. From now on, only the end of later registered instances matters.

        If a socket is older than ours by more than `within` (the maximum seconds of a Register), its instance
        had registered before us. An instance that registers again uses a new socket, unless its last
        registration was the latest of all.
        """
        latest = _bound_at(own) - within
        self._older = frozenset(path for path, _ in self._sockets() if _bound_at(path) < latest)
        self._alive, self._stale = self._inspect()

    def any_ended(self) -> bool:
        """Return whether an instance that may have registered after us has ended since the last call."""
        alive, stale = self._inspect()
        ended = (self._alive - alive) | (stale - alive - self._stale)
        self._alive, self._stale = alive, stale
        return bool(ended)

    def any_alive(self) -> bool:
        """Return whether another instance, which registered before or after us, serves the resource now."""
        return any(_state(path) is PathState.LIVE for path, _ in self._sockets())

    def _inspect(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the instances with a live or uninspectable socket, and the instances with a stale socket."""
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
    """Return an instance identifier that no socket has: gRPC silently takes over a live socket's path."""
    used, first = {found["instance"] for _, found in _our_sockets(directory)}, random_below(INSTANCES)
    numbers = itertools.chain(range(first, INSTANCES), range(first))
    names = (_digits(number, _INSTANCE_LETTERS) for number in numbers)
    if (instance := next((name for name in names if name not in used), None)) is None:
        raise UnavailableError(
            f"all {INSTANCES:,} names for the plugin's sockets are in use in {directory}",
            error_code="socket-names-used-up",
            why="each instance takes a name of its own, and removes it when it ends",
            remedy="remove the files sgx-*.sock on which no program listens",
        )
    return instance


def refuse_second_plugin(directory: Path, resources: Iterable[str], installation: str) -> None:
    """Raise UnavailableError if a plugin of another installation serves one of these resources.

    The kubelet would treat the later plugin as the earlier one's successor: it would allocate the same EPC twice, and
    lose the resource when either plugin ends. In an update, one installation's plugins replace each other.
    """
    mine = {_digest(name): name for name in resources}
    for path, found in _our_sockets(directory):
        foreign = found["resource"] in mine and found["installation"] != _digest(installation)
        if foreign and _state(path) is PathState.LIVE:
            raise UnavailableError(
                f"another device plugin offers {mine[found['resource']]} on this node",
                error_code="resource-served-by-another",
                why=f"{path} belongs to another installation than {installation!r}",
                remedy="remove one of the two plugins; a new instance of the same plugin needs the same --installation",
            )


def remove_stale_sockets(directory: Path) -> list[str]:
    """Remove our sockets on which no process listens, and return their names; uninspectable sockets stay."""
    removed = []
    for path, _ in _our_sockets(directory):
        if _state(path) is PathState.STALE:
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return removed


def _our_sockets(directory: Path) -> list[tuple[Path, re.Match[str]]]:
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return []
    return [(path, found) for path in paths if (found := _NAME.fullmatch(path.name))]


def _state(path: Path) -> PathState | None:
    try:
        return inspect_socket(path).state
    except (UnavailableError, OSError):
        return None


def _bound_at(path: Path) -> float:
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
