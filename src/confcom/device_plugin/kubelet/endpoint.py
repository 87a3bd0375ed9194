"""One resource's gRPC server, on a socket of its own that the kubelet dials."""

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
from confcom.kubelet_api.services import unix_target

_logger = logging.getLogger(__name__)

MAX_CONCURRENT_CALLS = MAX_STREAMS + 4
"""The kubelet makes one call at a time beside its stream. Calls beyond the limit are refused, so that requests do not
accumulate in memory. For 2,048 devices a request has at most 10 KiB. For 262,144 it has 1.3 MiB, and twelve of those
are 16 MiB of the plugin's 128 MiB in the chart."""
STOP_SECONDS = 1.0
"""For calls in flight when the server stops. Streams are ended before, and Allocate takes less than a millisecond."""

MAX_FORMER = 2
"""Replaced endpoints that may wait for the next registration; a kubelet that refuses again and again leaves more."""


@dataclass(slots=True)
class Endpoint:
    """One gRPC server on one socket. Every server has a new path, which is never used again.

    A 1.37 kubelet refuses a path that it is still connected to. Also, gRPC silently takes over a live socket's path and
    removes the path when the server ends, even if another server has it by then.
    """

    path: Path
    servicer: ResourceServicer
    _server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Bind the socket and serve."""
        require_directory(self.path.parent)
        server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
            options=(
                ("grpc.max_receive_message_length", self.servicer.max_request_bytes),
                # Otherwise gRPC would enlarge the receive window of each connection, up to several MiB.
                ("grpc.http2.bdp_probe", 0),
            ),
        )
        server.add_generic_rpc_handlers((self.servicer.handler(),))
        try:
            server.add_insecure_port(unix_target(str(self.path)))
        except RuntimeError as error:
            raise UnavailableError(
                f"the device plugin's socket {self.path} cannot be bound",
                error_code="socket-path-unusable",
                why=str(error),
                remedy="check the directory; GRPC_VERBOSITY=debug shows gRPC's messages",
            ) from error
        self._server = server
        await server.start()

    def is_live(self) -> bool:
        """Return whether the path accepts connections; a kubelet that starts removes all sockets in its directory."""
        return inspect_path(self.path) is PathState.LIVE

    def path_exists(self) -> bool:
        """Return whether the path still exists; cheaper than `is_live`, for periodic checks."""
        return os.path.lexists(self.path)

    async def close(self) -> None:
        """End the streams, then stop the server, which removes its path."""
        self.servicer.end_streams()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Serving:
    """The endpoints that serve one resource: the latest, and one retained endpoint that must not end yet."""

    def __init__(self, new_endpoint: Callable[[], Endpoint]) -> None:
        self._new_endpoint = new_endpoint
        self._endpoint: Endpoint | None = None
        self._retained: Endpoint | None = None
        self._restart_reason = ""
        self._retain_current = False
        self._former: list[Endpoint] = []

    @property
    def path(self) -> Path | None:
        """Path of the latest socket."""
        return None if self._endpoint is None else self._endpoint.path

    def mark_path_used(self) -> None:
        """Have the next endpoint use a new path, because the kubelet may know this one from a Register that failed.

        From 1.37 on the kubelet refuses a path that it knows.
        """
        self._restart_reason = self._restart_reason or "the kubelet may know the old socket"

    def retain(self) -> None:
        """Have the next endpoint use a new path, and serve the latest one beside it.

        The kubelet may still watch the latest endpoint, or have dropped it without notice, so it cannot be registered
        again. If the kubelet still watches it, closing it would make the resource unavailable. An endpoint that was
        retained before is closed at the next restart: up to 1.36 the kubelet does not watch it any more, and from 1.37
        on it has the latest one.
        """
        self._restart_reason, self._retain_current = "an instance that registered later has ended", True

    async def ensure_served(self) -> Endpoint:
        """Return an endpoint that accepts connections at a path that may be registered; restart if there is none."""
        if self._endpoint is not None and not self._restart_reason:
            if self._endpoint.is_live():
                return self._endpoint
            self._restart_reason = "the old socket is gone"
        _logger.info(
            "serving on a new socket", extra={"reason": self._restart_reason or "the old socket could not be served"}
        )
        return await self.restart()

    async def restart(self) -> Endpoint:
        """Serve at a new path, and close the endpoints that are not retained.

        Those without a stream are closed by `close_former`, since a kubelet that has restarted waits for the new one.
        A stream that ended after the next registration would end that one too, up to 1.36.
        """
        ending = [self._endpoint]
        if self._retain_current:
            ending, self._retained = [self._retained], self._endpoint
        elif self._retained is not None and self._retained.servicer.streams.lost.is_set():
            ending.append(self._retained)
            self._retained = None
        self._former += [endpoint for endpoint in ending if endpoint is not None]
        self._endpoint, self._restart_reason, self._retain_current = None, "", False
        if len(self._former) > MAX_FORMER or any(one.servicer.streams.open_streams for one in self._former):
            await self.close_former()
        endpoint = self._new_endpoint()
        await endpoint.start()
        self._endpoint = endpoint
        return endpoint

    async def close_former(self) -> None:
        """Close the endpoints that were replaced."""
        former, self._former = self._former, []
        await asyncio.gather(*(endpoint.close() for endpoint in former))

    async def close(self) -> None:
        """End the streams, stop the servers, and remove the sockets."""
        self._former += [endpoint for endpoint in (self._endpoint, self._retained) if endpoint is not None]
        self._endpoint = self._retained = None
        await self.close_former()


def require_directory(directory: Path) -> None:
    """Check that sockets can be bound in the kubelet's directory.

    Raises:
        SettingsError: the socket paths would be too long.
        UnavailableError: sockets cannot be bound; the error has the reason.
    """
    size = len(os.fsencode(directory)) + 1 + NAME_BYTES
    if size > MAX_PATH_BYTES:
        raise SettingsError(
            f"the device plugin's socket paths would be {size} bytes long in {directory}",
            error_code="socket-path-too-long",
            why=f"a unix socket's path has at most {MAX_PATH_BYTES} bytes here",
            remedy="give a --device-plugin-dir with a shorter path",
        )
    try:
        is_directory = directory.is_dir()
    except OSError as error:
        raise _unusable(directory, error.strerror or str(error)) from error
    if not is_directory:
        raise UnavailableError(
            f"the device plugin directory {directory} does not exist",
            error_code="device-plugin-dir-missing",
            why="a kubelet creates it when it starts",
            remedy="start the kubelet first, or give --device-plugin-dir (the kubelet's --root-dir does not move it)",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _unusable(directory, "it cannot be written")


def _unusable(directory: Path, why: str) -> UnavailableError:
    return UnavailableError(
        f"the device plugin directory {directory} cannot be used",
        error_code="device-plugin-dir-unusable",
        why=why,
        remedy="run the plugin as a user that may write there; a kubelet's directory is root's",
    )
