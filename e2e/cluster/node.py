"""The first process of the node: it starts the components, reaps what ends, and takes orders to stop and start one.

It runs in namespaces of its own (see lifecycle.py). When it ends, for whatever reason, the kernel ends every other
process of its PID namespace, containers too, and with the last of them all mounts and networks are gone. It ends when
a component does so unasked: a cluster that heals itself would hide what a test is to find.

Usage: python -m e2e.cluster.node FOLDER CNI TOOLS... (only by lifecycle.py)
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError
from e2e.cluster import cgroups
from e2e.cluster.addresses import Places
from e2e.cluster.components import Component, components
from e2e.cluster.isolation import isolate
from e2e.cluster.tools import ROOT, Tools

READY_SECONDS = 60.0
"""For one component on a busy machine; the slowest, the API server, takes 3 to 4 on an idle one."""

STOP_SECONDS = 15.0
"""From SIGTERM to SIGKILL; the kubelet takes under one."""

POLL_SECONDS = 0.05
PROBE_SECONDS = 2.0
"""One attempt at a component that may accept and not answer yet."""

ORDER_BYTES = 4096
"""An order is a line of some 50 bytes."""


class EndedError(ConfcomError):
    """A component ended unasked; so does the node."""


class Node:
    """The components and their processes.

    Args:
        places: the cluster's.
        parts: what to run.
        environment: of every component.
    """

    def __init__(self, places: Places, parts: tuple[Component, ...], environment: Mapping[str, str]) -> None:
        self._places = places
        self._parts = {part.name: part for part in parts}
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a component and wait until others may count on it."""
        part = self._parts[name]
        if name in self._running:
            raise ConfcomError(f"{name} runs already")
        with (self._places.logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
                start_new_session=True,
            )
        self._until(lambda: self._answers(part), f"{name} does not become ready", READY_SECONDS)

    def stop(self, name: str) -> None:
        """End a component, and start it no more until told so."""
        process = self._running.pop(name, None)
        if process is None:
            raise ConfcomError(f"{name} does not run")
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def reap(self) -> None:
        """Take leave of ended processes: orphans silently; a component ends everything."""
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            for name, process in self._running.items():
                if process.pid == ended.si_pid:
                    raise EndedError(
                        f"{name} ended by itself with {process.wait()}",
                        why="its log tells",
                        remedy=str(self._places.logs / f"{name}.log"),
                    )
            os.waitpid(ended.si_pid, 0)

    def serve(self, listener: socket.socket) -> None:
        """Take orders, one a connection, until a component ends."""
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        with selectors.DefaultSelector() as selector:
            selector.register(read, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            while True:
                self.reap()
                for key, _ in selector.select():
                    if key.fd == read:
                        os.read(read, ORDER_BYTES)
                    else:
                        self._obey(listener)

    def _obey(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PROBE_SECONDS)
            try:
                order = json.loads(connection.recv(ORDER_BYTES))
                {"start": self.start, "stop": self.stop}[order["order"]](order["component"])
                answer = {}
            except EndedError:
                raise
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"error": f"not an order: {error!r}"}
            except ConfcomError as error:
                answer = {"error": str(error)}
            try:
                connection.sendall(json.dumps(answer).encode())
            except OSError as error:
                sys.stderr.write(f"nobody waited for the answer: {error}\n")

    def _until(self, condition: Callable[[], bool], failure: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.reap()
            if time.monotonic() > deadline:
                raise UnavailableError(failure, why=f"it had {seconds:.0f} s", remedy=f"see {self._places.logs}")
            time.sleep(POLL_SECONDS)

    def _answers(self, part: Component) -> bool:
        try:
            if part.ready.startswith("/"):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(part.ready)
            elif part.ready:
                tls = part.ready.startswith("https:")
                trust = ssl.create_default_context(cafile=self._places.certificates / "ca.crt") if tls else None
                urllib.request.urlopen(part.ready, timeout=PROBE_SECONDS, context=trust).close()  # noqa: S310  (http(s))
        except OSError:
            return False
        return True


def report(line: str) -> None:
    """Tell whoever starts the cluster; if that is gone, the node ends too."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def main(folder: str, cni: str, *tools: str) -> int:
    """Isolate, start, serve; returns only on failure."""
    places = Places(Path(folder))
    pid = str(Path("/proc/self").readlink())  # as the machine counts: its /proc is still the one that is seen
    alive = places.alive.open("w")
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    alive.write(pid)
    alive.flush()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    programs = Tools(folders=tuple(map(Path, tools)), cni=Path(cni))
    try:
        with Path("/proc/self/mountinfo").open() as mountinfo:
            hierarchies = cgroups.hierarchies(mountinfo.read())
        kept = [ROOT, places.folder, Path(sys.prefix), Path(sys.base_prefix), *programs.folders, programs.cni]
        isolate(places, hierarchies, kept)
        path = ":".join([*tools, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        parts = components(places, programs)
        node = Node(places, parts, {"PATH": path, "HOME": str(places.home), "LANG": "C.UTF-8"})
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(places.control))
            listener.listen()
            for part in parts:
                report(part.name)
                node.start(part.name)
            report("ready")
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whoever started us may go now
            node.serve(listener)
    except ConfcomError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
