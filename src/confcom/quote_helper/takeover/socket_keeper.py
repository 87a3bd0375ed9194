"""Keeps the AESM socket's path: binds it, takes it over, notices its loss, and leaves it to a newer instance.

The rules are those of `takeover_policy`; here they meet the file system. A file watch would need inotify instances,
which are few per user and shared by the node's programs; one lstat(2) every half second costs nothing that can be
measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from confcom.daemon.socket_path import FileIdentity, require_usable_path, unusable
from confcom.daemon.unix_socket import BoundUnixSocket, link_socket, make_directory, replace_socket
from confcom.daemon.worker import WorkerPool
from confcom.errors import ConfcomError, UnavailableError
from confcom.quote_helper.limits import BACKLOG, DIRECTORY_MODE, SOCKET_MODE, HelperLimits
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.takeover.holder_probe import ask_holder
from confcom.quote_helper.takeover.socket_access import SocketAccess, remove_directory
from confcom.quote_helper.takeover.socket_inspection import look
from confcom.quote_helper.takeover.takeover_policy import (
    MAX_SOCKET_PATH_BYTES,
    Blocked,
    Decision,
    Directory,
    Instance,
    Ours,
    Own,
    Sight,
    Stale,
    Step,
    decide,
)

_logger = logging.getLogger(__name__)

_NEVER_HEALS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP})
"""At the start these mean that path or permissions are set wrong, and a helper that waited would only hide it. What
passes by itself (a full disk, no descriptor left) is waited for, and so is everything once the helper runs."""


class ListenerHost(Protocol):
    """Accepts connections from listening sockets."""

    def add_listener(self, listener: socket.socket) -> None:
        """Accept from it."""

    def remove_listener(self, listener: socket.socket) -> None:
        """Accept from it no more; nothing happens if it was not there."""


class SocketKeeper:
    """One instance's hold on the path.

    Args:
        path: where clients look.
        me: this instance.
        host: gets the listening sockets.
        workers: where a look runs that may have to wait.
        stale: told whom this instance took over from.
        limits: how often, and how long.
        replace_foreign: whether another program's live socket may be replaced.
        open_to_all: whether the modes of the socket and of its directory are kept at what lets every user connect.
        on_change: called whenever `reason` changes.
    """

    def __init__(
        self,
        path: Path,
        *,
        me: Instance,
        host: ListenerHost,
        workers: WorkerPool,
        stale: StaleTargetPolicy,
        limits: HelperLimits,
        replace_foreign: bool,
        open_to_all: bool,
        on_change: Callable[[], None],
    ) -> None:
        self._path = path
        self._me = me
        self._host = host
        self._workers = workers
        self._stale = stale
        self._limits = limits
        self._replace_foreign = replace_foreign
        self._on_change = on_change
        clock = asyncio.get_running_loop().time
        self._access = SocketAccess(path, open_to_all=open_to_all, limits=limits, clock=clock)
        self._reason: str | None = "the socket is not bound yet"
        self._expected = True
        self._bound: BoundUnixSocket | None = None
        self._retired: set[BoundUnixSocket] = set()
        self._can_quote = False
        self._wake = asyncio.Event()
        self._unable: Instance | None = None
        self._examination: asyncio.Task[None] | None = None
        self._next_examination = float("-inf")

    @property
    def reason(self) -> str | None:
        """Why the path does not lead here, or None if it does."""
        return self._reason

    @property
    def expected(self) -> bool:
        """Whether `reason` is part of every update: this instance waits for another one."""
        return self._expected

    async def start(self) -> None:
        """Take the path if nobody serves there; else `run` waits for it.

        Raises:
            ConfcomError: the path can never be bound as things are.
        """
        require_usable_path(self._path, MAX_SOCKET_PATH_BYTES)
        error = await self._step()
        if error is not None and _never_heals(error):
            raise error

    async def run(self) -> None:
        """Look after the path until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self._limits.socket_tick_seconds):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                await self._step()
        finally:
            if self._examination is not None:
                self._examination.cancel()

    def set_can_quote(self, *, can_quote: bool) -> None:
        """Whether this instance has made a whole quote, and lost nothing since. It acts on it at once."""
        if can_quote is not self._can_quote:
            self._can_quote = can_quote
            self._wake.set()

    async def hand_back(self) -> None:
        """Let another instance that can quote take the path without a gap; `run` has ended, and clients are served.

        Others leave the path to a newer instance, so from here on it bears a name that is older than any.
        """
        if self._bound is None or not self._bound.owns_path():
            return
        try:
            oldest = replace_socket(self._path, tag=self._me.as_oldest.mark, mode=SOCKET_MODE, backlog=BACKLOG)
        except OSError as error:
            _logger.warning("the path cannot be handed back", extra={"error": str(error)})
            return
        self._retire(self._bound)
        self._bound = oldest
        self._host.add_listener(oldest.socket)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.hand_back_seconds):
                while oldest.owns_path():  # noqa: ASYNC110 # nobody tells it: what takes the path is another process
                    await asyncio.sleep(self._limits.hand_back_look_seconds)

    def leave(self) -> None:
        """Remove the path if it is ours; `run` has ended. Who had connected is still accepted."""
        if self._bound is not None and self._bound.unlink():
            _logger.debug("the path was removed", extra={"path": str(self._path)})

    def close(self) -> None:
        """Leave, and stop listening."""
        if self._bound is not None:
            self._retired.add(self._bound)
            self._bound = None
        for bound in list(self._retired):
            self._remove(bound)

    async def _step(self) -> ConfcomError | None:
        """Look, decide, act; say what is in the way, if it is an error."""
        if (barrier := self._access.look_at_directory()) is not None:
            self._settle(barrier)
            return None
        if self._bound is not None:
            if self._bound.owns_path():
                self._keep_open(self._bound)
                return None
            self._retire(self._bound)
            self._bound = None
            self._reason, self._expected = "the path does not lead here any more", True
            self._on_change()
        sight = await self._look()
        decision = self._decide(sight)
        if decision.step is Step.REPLACE:
            # Before the rename, since afterwards nobody reaches it. Then look again: a second may have passed.
            answer = await ask_holder(self._path, deadline_seconds=self._limits.holder_target_seconds)
            sight = await self._look()
            decision = self._decide(sight)
            if decision.step is Step.REPLACE and sight != Ours(self._me):
                self._stale.took_over_from(answer.target_info)
        if decision.step is Step.BIND:
            # Who served here until now, if anybody did, cannot be asked any more.
            self._stale.took_over_from(b"")
        if isinstance(sight, Ours) and decision.step is Step.WAIT and self._can_quote:
            self._examine(sight.instance)
        if decision.step is Step.WAIT:
            self._settle(decision.reason, expected=decision.expected)
            return sight.error if isinstance(sight, Blocked) else None
        return self._take(sight, replace=decision.step is Step.REPLACE)

    def _keep_open(self, bound: BoundUnixSocket) -> None:
        reach = self._access.look_at_socket(bound)
        if not reach.needs_new_socket:
            self._settle(reach.reason)
        elif self._take(Own(), replace=True) is None:
            self._retire(bound)

    def _decide(self, sight: Sight) -> Decision:
        return decide(sight, me=self._me, can_quote=self._can_quote, replace_foreign=self._replace_foreign)

    async def _look(self) -> Sight:
        return await self._workers.submit(lambda: look(self._path, self._unable))

    def _take(self, sight: Sight, *, replace: bool) -> ConfcomError | None:
        """In the event loop, so that no stop comes between the socket and what remembers it."""
        make = replace_socket if replace else link_socket
        try:
            make_directory(self._path.parent, DIRECTORY_MODE)
            if isinstance(sight, Stale) and FileIdentity.of(self._path) == sight.identity:
                self._path.unlink(missing_ok=True)
            if isinstance(sight, Directory):
                remove_directory(self._path)
            self._bound = make(self._path, tag=self._me.mark, mode=SOCKET_MODE, backlog=BACKLOG)
        except FileExistsError:
            self._settle("another instance was faster", expected=True)
            self._wake.set()
            return None
        except ConfcomError as error:
            self._settle(str(error))
            return error
        except OSError as error:
            unavailable = _refusal(self._path, error)
            self._settle(str(unavailable))
            return unavailable
        self._host.add_listener(self._bound.socket)
        self._unable = None
        self._settle(None)
        return None

    def _retire(self, bound: BoundUnixSocket) -> None:
        """Somebody else has the path: who had connected before is still served."""
        self._retired.add(bound)
        asyncio.get_running_loop().call_later(self._limits.accept_drain_seconds, self._remove, bound)

    def _remove(self, bound: BoundUnixSocket) -> None:
        if bound in self._retired:
            self._retired.discard(bound)
            self._host.remove_listener(bound.socket)
            bound.close()

    def _examine(self, holder: Instance) -> None:
        """Ask the newer instance in the background, once in a while, whether it can quote."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_examination or (self._examination and not self._examination.done()):
            return
        self._next_examination = loop.time() + self._limits.holder_examination_seconds

        async def examine() -> None:
            answer = await ask_holder(self._path, deadline_seconds=self._limits.holder_answer_seconds)
            if not answer.can_quote:
                self._unable = holder
                self._wake.set()

        self._examination = loop.create_task(examine())

    def _settle(self, reason: str | None, *, expected: bool = False) -> None:
        if reason == self._reason:
            return
        self._reason, self._expected = reason, expected
        if reason is None:
            _logger.info("answering AESM's protocol on %s", self._path)
        else:
            level = logging.INFO if expected else logging.WARNING
            _logger.log(level, "not answering on %s: %s", self._path, reason)
        self._on_change()


def _never_heals(error: ConfcomError) -> bool:
    cause = error.__cause__
    return not isinstance(error, UnavailableError) or (isinstance(cause, OSError) and cause.errno in _NEVER_HEALS)


def _refusal(path: Path, error: OSError) -> UnavailableError:
    if error.errno == errno.ENOENT and path.parent.is_dir():
        refusal = UnavailableError(
            f"{path} cannot be bound",
            why="its directory was removed where it had been mounted from",
            remedy="restart the helper's container, so that the new directory is mounted",
        )
    else:
        refusal = unusable(path, error)
    refusal.__cause__ = error
    return refusal
