"""One resource's gRPC server on a socket of its own, as the kubelet dials it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from confcom.daemon.socket_path import PathState, inspect_path
from confcom.daemon.unix_socket import MAX_PATH_BYTES
from confcom.device_plugin.kubelet.servicer import MAX_STREAMS, ResourceServicer
from confcom.device_plugin.kubelet.socket_names import NAME_BYTES
from confcom.errors import SettingsError, UnavailableError
from confcom.kubelet_api.services import device_plugin_handler, unix_target

_logger = logging.getLogger(__name__)

MAX_CONCURRENT_CALLS = MAX_STREAMS + 4
"""The kubelet makes one call at a time beside its stream; more are refused instead of piling up in memory. With 2,048
devices a request has at most 10 KiB. With 262,144 it has 1.3 MiB, and twelve of them are 16 MiB of the 128 that the
chart gives to the plugin."""
STOP_SECONDS = 1.0
"""For calls in flight when the server stops. Streams are ended before, and Allocate takes less than a millisecond."""


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
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
            options=(
                ("grpc.max_receive_message_length", self.servicer.max_request_bytes),
                # gRPC would else enlarge what it receives ahead of us, for each connection, up to several MiB.
                ("grpc.http2.bdp_probe", 0),
            ),
        )
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


class Serving:
    """Where one resource is served: on one socket, or two while the first must not end yet.

    Args:
        new_endpoint: makes an endpoint that is not yet served, with a path never used before.
    """

    def __init__(self, new_endpoint: Callable[[], Endpoint]) -> None:
        self._new_endpoint = new_endpoint
        self._endpoint: Endpoint | None = None
        self._retained: Endpoint | None = None
        self._restart_reason = ""
        self._retain_current = False

    @property
    def path(self) -> Path | None:
        """Of the latest socket."""
        return None if self._endpoint is None else self._endpoint.path

    def mark_path_used(self) -> None:
        """The kubelet may know the path from a Register that failed: from 1.37 on it refuses a known one."""
        self._restart_reason = self._restart_reason or "the kubelet may know the old one"

    def retain(self) -> None:
        """The kubelet may follow the latest socket, or have left it without telling: it cannot be registered again.

        It is served beside the next one, since its end would take the resource from a kubelet that follows it. What was
        kept before it ends now: up to 1.36 the kubelet has no eye on it, and from 1.37 on it has the other.
        """
        self._restart_reason, self._retain_current = "an instance that registered later has ended", True

    async def ensure_served(self) -> Endpoint:
        """One that answers whoever dials it, at a path that may be registered.

        Raises:
            UnavailableError: no socket can be bound.
        """
        if self._endpoint is not None and not self._restart_reason:
            if self._endpoint.answers():
                return self._endpoint
            self._restart_reason = "the old one is gone"
        _logger.info(
            "serving at a new socket", extra={"reason": self._restart_reason or "the old one could not be served"}
        )
        return await self.restart()

    async def restart(self) -> Endpoint:
        """Serve at a new path.

        Raises:
            UnavailableError: the socket cannot be bound.
        """
        ending = None
        if self._retain_current:
            ending, self._retained = self._retained, self._endpoint
            self._endpoint = None
        elif self._retained is not None and self._retained.servicer.streams.lost.is_set():
            ending, self._retained = self._retained, None
        await _close_all(ending, self._endpoint)
        self._endpoint, self._restart_reason, self._retain_current = None, "", False
        endpoint = self._new_endpoint()
        await endpoint.start()
        self._endpoint = endpoint
        return endpoint

    async def close(self) -> None:
        """End the kubelet's streams and the servers, and remove the sockets."""
        await _close_all(self._endpoint, self._retained)
        self._endpoint = self._retained = None


async def _close_all(*endpoints: Endpoint | None) -> None:
    await asyncio.gather(*(endpoint.close() for endpoint in endpoints if endpoint is not None))


def require_directory(directory: Path) -> None:
    """See that sockets can be bound there.

    Raises:
        SettingsError: their paths would be too long.
        UnavailableError: they cannot, with the reason.
    """
    size = len(os.fsencode(directory)) + 1 + NAME_BYTES
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
            remedy="start the kubelet first, or give --device-plugin-dir (the kubelet's --root-dir does not move it)",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _unusable(directory, "it cannot be written")


def _unusable(directory: Path, why: str) -> UnavailableError:
    return UnavailableError(
        f"the device plugin directory {directory} cannot be used",
        why=why,
        remedy="run the plugin as a user that may write there; a kubelet's directory is root's",
    )
