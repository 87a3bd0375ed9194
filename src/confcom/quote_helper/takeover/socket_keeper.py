"""Reconciliation of the AESM socket's path: bind or take the path, notice its loss, leave it to a newer helper.

The path is polled: a file watch needs inotify instances, which are few per user and shared by the node's programs.
"""

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from confcom.daemon.readiness_log import NotReady
from confcom.daemon.socket_path import (
    FileIdentity,
    PathInspection,
    PathState,
    inspect_socket,
    not_a_socket,
    require_usable_path,
    unusable,
)
from confcom.errors import ConfcomError, UnavailableError
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.takeover.socket_access import DIRECTORY_MODE, SOCKET_MODE, SocketAccess, remove_directory
from confcom.quote_helper.takeover.takeover_policy import MAX_SOCKET_PATH_BYTES, Instance, Step, decide
from confcom.quote_helper.takeover.unix_socket import BoundUnixSocket, listen_at, make_directory
from confcom.quote_helper.transport.server import AesmServer
from confcom.quote_helper.worker_thread import in_worker_thread

_logger = logging.getLogger(__name__)

BACKLOG: Final = 4096
"""Linux' default of net.core.somaxconn, the kernel's limit of a backlog. Intel's client blocks in connect() without
time limit on a full backlog; asyncio's default of 100 refuses clients at 1,024 concurrent connects (measured)."""
LOOK_PATIENCE_SECONDS: Final = 1.0
"""If a live socket's backlog is full, an inspection (in a worker thread) waits at most this long for room."""


@dataclass(slots=True, kw_only=True, eq=False)
class SocketKeeper:
    path: Path
    me: Instance
    server: AesmServer
    stale: StaleTargetPolicy
    access: SocketAccess
    limits: HelperLimits
    on_change: Callable[[], None]
    problem: NotReady | None = field(
        init=False, default=NotReady("the socket is not bound yet", code="socket-not-bound", expected=True)
    )
    """Reason why this instance does not serve the path, or some clients cannot connect; else None."""
    _bound: BoundUnixSocket | None = field(init=False, default=None)
    _open: set[BoundUnixSocket] = field(init=False, default_factory=set)  # also sockets that lost the path
    _can_quote: bool = field(init=False, default=False)
    _wake: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def start(self) -> None:
        """Bind the path if no instance serves it; raise ConfcomError if it cannot be bound."""
        require_usable_path(self.path, MAX_SOCKET_PATH_BYTES)
        await self._reconcile()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.socket_tick_seconds):
                    await self._wake.wait()
            self._wake.clear()
            await self._look()

    def set_can_quote(self, *, can_quote: bool) -> None:
        if can_quote is not self._can_quote:
            self._can_quote = can_quote
            self._wake.set()

    async def hand_over(self, seconds: float) -> None:
        """Serve the path until another instance that can quote has taken it, but at most `seconds`. Call after `run`.

        Start with a new socket that has the oldest mark, since instances replace only older sockets.
        """
        if self._bound is None or not self._bound.owns_path():
            return
        self.me = Instance(0, self.me.token)
        try:
            self._bind(replace=True)
        except ConfcomError:
            return
        ends = asyncio.get_running_loop().time() + seconds
        while self._bound is not None and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(min(seconds, self.limits.hand_over_look_seconds))
            await self._look()

    def leave(self) -> None:
        """Remove the path if it leads to our socket; still accept the socket's backlog. Call after `run`."""
        if self._bound is not None and self._bound.unlink():
            _logger.debug("the path was removed", extra={"path": str(self.path)})

    def close(self) -> None:
        for bound in list(self._open):
            self._remove(bound)

    async def _look(self) -> None:
        try:
            await self._reconcile()
        except ConfcomError as error:
            self._set_problem(NotReady(str(error), error.error_code))

    async def _reconcile(self) -> None:
        if (barrier := self.access.open_directory()) is not None:
            self._set_problem(barrier)
            return
        if self._bound is not None:
            if self._bound.owns_path():
                if self.access.socket_was_changed():
                    self._bind(replace=True)
                else:
                    self._set_problem(None)
                return
            self._retire(self._bound)
            self._bound = None
            self.problem = NotReady("the path no longer leads to this helper's socket", code="path-lost", expected=True)
            self.on_change()
        found = await in_worker_thread(lambda: _inspect(self.path))
        step = decide(found, me=self.me, uid=os.geteuid(), can_quote=self._can_quote)
        if isinstance(step, NotReady):
            self._set_problem(step)
            return
        self.stale.open_window()
        self._bind(stale=found.stale, replace=step is Step.REPLACE)

    def _bind(self, *, stale: FileIdentity | None = None, replace: bool) -> None:
        served = self._bound
        try:  # in the event loop, so that no stop can come before `_bound` is set
            make_directory(self.path.parent, DIRECTORY_MODE)
            if stale is not None and FileIdentity.of(self.path) == stale:
                self.path.unlink(missing_ok=True)
            if _is_directory(self.path):
                remove_directory(self.path)
            self._bound = listen_at(self.path, tag=self.me.mark, mode=SOCKET_MODE, backlog=BACKLOG, replace=replace)
        except FileExistsError:
            self._wake.set()  # another instance took the path first
            return
        except OSError as error:
            if error.errno == errno.ENOENT and self.path.parent.is_dir():
                raise UnavailableError(
                    f"{self.path} cannot be bound",
                    error_code="mounted-directory-removed",
                    why="the mounted source of its directory was removed",
                    remedy="restart the helper's container, so that the new directory is mounted",
                ) from error
            raise unusable(self.path, error) from error
        self._open.add(self._bound)
        self.server.add_listener(self._bound.socket)
        if served is not None:
            self._retire(served)
        self._set_problem(None)

    def _retire(self, bound: BoundUnixSocket) -> None:
        """After `accept_drain_seconds`, close a socket that lost the path; accept its backlog until then."""
        asyncio.get_running_loop().call_later(self.limits.accept_drain_seconds, self._remove, bound)

    def _remove(self, bound: BoundUnixSocket) -> None:
        self._open.discard(bound)
        self.server.remove_listener(bound.socket)
        bound.close()

    def _set_problem(self, problem: NotReady | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            _logger.info("serving AESM's protocol on %s", self.path)
        self.on_change()


def _inspect(path: Path) -> PathInspection:
    """Return the path's state; may block. Raise ConfcomError if the path cannot be bound."""
    identity = FileIdentity.of(path)
    try:
        found = inspect_socket(path, patience=LOOK_PATIENCE_SECONDS)
    except UnavailableError:
        if identity is None:
            raise
        return PathInspection(PathState.LIVE)  # a socket to which this user may not connect
    except OSError as error:
        raise unusable(path, error) from error
    if found.state is PathState.OTHER and not _is_directory(path):
        raise not_a_socket(path)
    return replace(found, stale=identity) if found.state is PathState.STALE else found


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
