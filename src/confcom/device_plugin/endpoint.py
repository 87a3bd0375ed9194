"""One resource's gRPC server on a socket of its own, as the kubelet dials it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from confcom.daemon.unix_socket import MAX_PATH_BYTES, PathState, inspect_path
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.device_plugin.servicer import ResourceServicer
from confcom.errors import SettingsError, UnavailableError
from confcom.kubelet_api.services import device_plugin_handler, unix_target

MAX_CONCURRENT_CALLS = 32
"""The kubelet makes one call at a time beside its stream; more are refused instead of piling up in memory."""
STOP_SECONDS = 1.0
"""For calls in flight when the server stops. Streams are ended before, and Allocate takes less than a millisecond."""
TOKEN_BYTES = 3
"""Random bytes in a socket's name: enough that instances on one node never meet, short enough for long directories."""
_MARK_BYTES = 2
"""Of the digest of a name in a socket's name. Two of a node are alike once in 65,536."""
_KIND_LETTERS = 3
_NAME_BYTES = len("sgx--.sock") + _KIND_LETTERS + 2 * (_MARK_BYTES + _MARK_BYTES + TOKEN_BYTES)
"""Of a socket's name, whatever is served there."""
_SOCKET_NAME = re.compile(
    rf"sgx-({'|'.join(kind[:_KIND_LETTERS] for kind in ResourceKind)})-(?P<resource>[0-9a-f]{{{2 * _MARK_BYTES}}})"
    rf"(?P<installation>[0-9a-f]{{{2 * _MARK_BYTES}}})[0-9a-f]{{{2 * TOKEN_BYTES}}}\.sock"
)


def socket_name(resource: Resource, installation: str, token: str) -> str:
    """The name of a resource's socket, from which plugins on a node tell whether they offer the same.

    Args:
        resource: what is served there.
        installation: whose plugin it is.
        token: TOKEN_BYTES in hex, never used before.
    """
    return f"sgx-{resource.kind[:_KIND_LETTERS]}-{_mark(resource.name)}{_mark(installation)}{token}.sock"


def refuse_second_plugin(directory: Path, resources: Iterable[Resource], installation: str) -> None:
    """Let nobody start beside a plugin of another installation that serves one of the same resources.

    The kubelet would take the later one for the earlier one's successor, hand out the same EPC twice, and lose the
    resource when either ends. An instance of the same installation is the next one of an update.

    Raises:
        UnavailableError: there is such a plugin.
    """
    mine = {_mark(resource.name): resource.name for resource in resources}
    for path, found in _our_sockets(directory):
        foreign = found["resource"] in mine and found["installation"] != _mark(installation)
        if foreign and _state(path) is PathState.LIVE:
            raise UnavailableError(
                f"another device plugin offers {mine[found['resource']]} on this node",
                why=f"{path} answers, and belongs to another installation than {installation!r}",
                remedy="remove one of the two; the next instance of that one has the same --installation",
            )


def _our_sockets(directory: Path) -> list[tuple[Path, re.Match[str]]]:
    """What is named as sockets of this program are, of any installation; nothing if it may not be looked at."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return []
    return [(path, found) for path in paths if (found := _SOCKET_NAME.fullmatch(path.name))]


def _state(path: Path) -> PathState | None:
    """What is there, or None if it may not be looked at."""
    try:
        return inspect_path(path)
    except UnavailableError:
        return None


def _mark(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[: 2 * _MARK_BYTES]


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


@dataclass(slots=True)
class Endpoint:
    """A served socket. The path is used once: a new server gets a new name.

    A name of its own, since a 1.37 kubelet refuses a path that it is still connected to, and since gRPC silently takes
    over a live socket's path and removes the path, whosever it is by then, when the server ends.
    """

    path: Path
    servicer: ResourceServicer
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            UnavailableError: the socket cannot be bound.
        """
        require_directory(self.path.parent)
        server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
        server.add_generic_rpc_handlers((device_plugin_handler(self.servicer),))
        try:
            server.add_insecure_port(unix_target(str(self.path)))
        except RuntimeError as error:
            raise UnavailableError(
                f"the device plugin's socket {self.path} cannot be bound",
                why=str(error),
                remedy="check the directory; GRPC_VERBOSITY=debug makes gRPC say more",
            ) from error
        self._server = server
        await server.start()

    def answers(self) -> bool:
        """Whether someone who dials the path now is served: a starting kubelet removes every socket it finds."""
        return inspect_path(self.path) is PathState.LIVE

    def has_path(self) -> bool:
        """Whether the path is still there; cheaper than `answers`, for looking every now and then."""
        return os.path.lexists(self.path)

    async def close(self) -> None:
        """End the streams, then the server, which removes its path."""
        self.servicer.end_streams()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def require_directory(directory: Path) -> None:
    """See that sockets can be bound there.

    Raises:
        SettingsError: their paths would be too long.
        UnavailableError: they cannot, with the reason.
    """
    size = len(os.fsencode(directory)) + 1 + _NAME_BYTES
    if size > MAX_PATH_BYTES:
        raise SettingsError(
            f"the device plugin's socket paths would be {size} bytes long in {directory}",
            why=f"a unix socket's path has at most {MAX_PATH_BYTES} bytes here",
            remedy="give a --device-plugin-dir with a shorter path",
        )
    try:
        is_directory = directory.is_dir()
    except OSError as error:
        raise _unusable(directory, error.strerror or str(error)) from error
    if not is_directory:
        raise UnavailableError(
            f"the device plugin directory {directory} is not there",
            why="a kubelet makes it when it starts",
            remedy="start the kubelet first, or give --device-plugin-dir (it lies below the kubelet's --root-dir)",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _unusable(directory, "it cannot be written")


def _unusable(directory: Path, why: str) -> UnavailableError:
    return UnavailableError(
        f"the device plugin directory {directory} cannot be used",
        why=why,
        remedy="run the plugin as a user that may write there; a kubelet's directory is root's",
    )
