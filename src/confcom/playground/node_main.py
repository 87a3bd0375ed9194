"""The process of a node: `confcom playground node`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from confcom.daemon.supervision import run_daemon
from confcom.errors import ExitCode, UnavailableError
from confcom.playground.api.control_server import ControlServer
from confcom.playground.api.object_store import SUFFIX_CHARACTERS
from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.layout import Layout
from confcom.playground.node import Node
from confcom.playground.runtime.container import MARK_VARIABLE
from confcom.playground.runtime.images import Image
from confcom.playground.runtime.modes import ChosenMode, Mode, choose_mode

STOP_SECONDS = 10.0
"""Deadline for the whole stop: containers have a grace period of 2 s, and the rest is to close a few sockets."""

KILLED_SECONDS = 5.0
"""Deadline for the stop after a second signal: containers are killed then, and the sweeps take 1 s at most."""

GUARDIAN_SECONDS = 5.0
"""The guardian's sweeps take 1 s at most."""

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of Kubernetes, without vowels and similar characters, so that no suffix is a word."""


def run_node(
    directory: Path,
    wanted: str,
    images: Mapping[str, Image],
    *,
    rules: KubeletRules = KubeletRules.UP_TO_1_36,
    announce: Callable[[ChosenMode], None],
) -> ExitCode:
    """Run a node in the foreground until SIGTERM, SIGINT or SIGHUP.

    Args:
        directory: DIR; created if it is missing.
        wanted: the mode, or `auto` for the best that works.
        images: the image table.
        rules: the Kubernetes version whose rules the device manager follows.
        announce: called once the node is ready.

    Raises:
        SettingsError: the mode does not work here, or the directory's name is too long.
        UnavailableError: another node runs in the directory.
    """
    layout = Layout(directory.absolute())
    layout.create()
    chosen = choose_mode(wanted, scratch=layout.directory)

    async def main(stop: asyncio.Event) -> None:
        instance = secrets.token_hex(8)
        node = Node(layout, images, chosen, instance=instance, suffix=_suffix, rules=rules)
        control = ControlServer(node, layout.control_socket)
        async with _guardian(chosen, instance):
            try:
                await node.start()
                await control.start()
                announce(chosen)
                await stop.wait()
            finally:
                await _stop(control, node)

    with _lock(layout):
        return run_daemon(main, stop_deadline=STOP_SECONDS)


async def _stop(control: ControlServer, node: Node) -> None:
    """Stop the node; if this is cancelled, kill the containers and finish within KILLED_SECONDS."""

    async def in_order() -> None:
        await control.stop()
        await node.stop()

    stopping = asyncio.create_task(in_order())
    try:
        await asyncio.wait([stopping])
    except asyncio.CancelledError:
        node.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_SECONDS):
                await stopping
        raise
    await stopping


@contextlib.contextmanager
def _lock(layout: Layout) -> Iterator[None]:
    """Hold the directory's lock, which allows one node; the kernel releases it however the process ends."""
    with (layout.directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"a node already runs in {layout.directory}",
                error_code="node-runs-already",
                why="its lock is held",
                remedy="use that one, stop it, or choose another directory with --dir",
            ) from None
        yield


@contextlib.asynccontextmanager
async def _guardian(chosen: ChosenMode, instance: str) -> AsyncIterator[None]:
    """Run the guardian in the mode without namespaces: it kills the containers if this process cannot."""
    if chosen.mode is not Mode.NO_NAMESPACE:
        yield
        return
    guardian = await asyncio.create_subprocess_exec(
        sys.executable,
        # -P: the working directory is not on sys.path, where a user's secrets.py would replace the standard module.
        "-P",
        "-m",
        "confcom.playground.runtime.guardian",
        f"{MARK_VARIABLE}={instance}/",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if guardian.stdin is not None:
            guardian.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GUARDIAN_SECONDS):
                await guardian.wait()


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(SUFFIX_CHARACTERS))
