"""The first process of a host: it starts components, reaps processes, and stops or starts them on request.

When it ends, the kernel ends every other process of its PID namespace. Nodes are components of the control
plane's host, whose PID namespace contains theirs. A host ends when a component ends unasked, because
a cluster that repairs itself would hide errors from a test.

Usage: python -m e2e.cluster.host FOLDER [NODE'S NUMBER] (only by lifecycle.py, and by itself for the nodes)
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confcom.errors import ConfcomError, UnavailableError
from e2e.cluster import cgroups, components
from e2e.cluster.addresses import HostPlaces, NodeIdentity, Places
from e2e.cluster.cgroups import Hierarchy
from e2e.cluster.components import Component
from e2e.cluster.isolation import isolate, make_groups, separated, set_up_control_plane, set_up_node
from e2e.cluster.plan import Plan
from e2e.cluster.tools import ROOT
from e2e.waiting import end

READY_SECONDS = 60.0
"""Seconds for one component's start on a busy machine; on an idle machine, the API server needs 3 to 4 s."""

STOP_SECONDS = 15.0
"""Seconds from SIGTERM to SIGKILL; the kubelet ends in under a second."""

POLL_SECONDS = 0.05
PROBE_SECONDS = 2.0
"""Seconds for one probe of a component, which may already accept connections but not answer yet."""

ORDER_BYTES = 4096
"""Longest order that is read; an order is a line of some 50 bytes."""


class EndedError(ConfcomError):
    """A component ended although nobody asked for it, so the host ends too."""


@dataclass(slots=True)
class Supervisor:
    """The components and their processes; each component that is a host gets its own control groups."""

    parts: dict[str, Component]
    logs: Path
    authority: Path
    environment: Mapping[str, str]
    hierarchies: Sequence[Hierarchy]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        part = self.parts[name]
        if name in self._running:
            raise ConfcomError(f"{name} runs already")
        command: Sequence[str] = part.command
        if part.host:
            command = separated(make_groups(name, self.hierarchies), self.hierarchies, command)
        with (self.logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT if part.host else "/",
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers(part):
            self.reap()
            if time.monotonic() > deadline:
                raise UnavailableError(f"{name} does not become ready", remedy=f"see {self.logs}")
            time.sleep(POLL_SECONDS)

    def stop(self, name: str) -> None:
        """End a component, until an order starts it again; a host ends as if its power was cut."""
        if self.parts[name].host:
            self.kill(name)
            return
        end(self._running.pop(name), STOP_SECONDS)

    def kill(self, name: str) -> None:
        """End a component at once, by SIGKILL; for a host, end all its processes and control groups."""
        process = self._running.pop(name)
        if self.parts[name].host:
            for child in _children(process.pid):  # a child's end is reported when its whole namespace is gone
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            process.wait()
            cgroups.remove([hierarchy.mountpoint / name for hierarchy in self.hierarchies])
        else:
            process.kill()
            process.wait()

    def reap(self) -> None:
        """Reap ended processes. An orphan's end has no effect, but a component's end ends the whole host."""
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            for name, process in self._running.items():
                if process.pid == ended.si_pid:
                    log = self.logs / f"{name}.log"
                    raise EndedError(f"{name} ended by itself with {process.wait()}", remedy=f"see {log}")
            os.waitpid(ended.si_pid, 0)

    def serve(self, listener: socket.socket) -> None:
        """Carry out orders, one per connection, until a component ends."""
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
            answer: Mapping[str, Any]
            try:
                received = connection.recv(ORDER_BYTES)
                if not received:  # a client only checked whether this process runs, and read its pid
                    return
                answer = self._done(json.loads(received))
            except EndedError:
                raise
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"error": f"not an order, or no component that runs: {error!r}"}
            except ConfcomError as error:
                answer = {"error": str(error)}
            with contextlib.suppress(OSError):  # the client may have been interrupted
                connection.sendall(json.dumps(answer).encode())

    def _done(self, order: Mapping[str, str]) -> Mapping[str, Any]:
        if order["order"] == "list":
            return {"stopped": [name for name in self.parts if name not in self._running]}
        name = order["component"]
        if program := order.get("program"):
            part = self.parts[name]
            self.parts[name] = replace(part, command=(program, *part.command[1:]))
        {"start": self.start, "stop": self.stop, "kill": self.kill}[order["order"]](name)
        return {}

    def _answers(self, part: Component) -> bool:
        try:
            if part.ready.startswith("/"):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(part.ready)
            elif part.ready:
                tls = part.ready.startswith("https:")
                trust = ssl.create_default_context(cafile=self.authority) if tls else None
                urllib.request.urlopen(part.ready, timeout=PROBE_SECONDS, context=trust).close()  # noqa: S310  (http(s))
        except OSError:
            return False
        return True


def _children(pid: int) -> tuple[int, ...]:
    return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def serve(
    places: Places, plan: Plan, host: HostPlaces, parts: Sequence[Component], set_up_network: Callable[[], None]
) -> None:
    """Run as a host; this function never returns, except by raising an error."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    hierarchies = cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())
    kept = [ROOT, places.folder, Path(sys.prefix), Path(sys.base_prefix), *plan.tools.folders]
    isolate(host, hierarchies, kept, set_up_network)
    folders = [*map(str, plan.tools.folders), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin"]
    supervisor = Supervisor(
        {part.name: part for part in parts},
        logs=host.logs,
        authority=places.certificates / "ca.crt",
        environment={"PATH": ":".join([*folders, "/bin"]), "HOME": str(places.home), "LANG": "C.UTF-8"},
        hierarchies=hierarchies,
    )
    for part in parts:
        supervisor.start(part.name)
    host.control.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.control))
        listener.listen()
        os.write(sys.stdout.fileno(), b"ready\n")  # our parent awaits this; if our parent is gone, we end too
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the starting process may end now
        supervisor.serve(listener)


def main(folder: str, number: str = "") -> int:
    """Isolate the host, start its components, and serve orders; return only on failure."""
    places = Places(Path(folder))
    plan = Plan.read(places.plan)
    try:
        if number:
            node = NodeIdentity(int(number))
            parts = components.of_node(places, plan.tools, node)
            serve(places, plan, places.node(node), parts, functools.partial(set_up_node, node))
        pid = str(Path("/proc/self").readlink())  # our pid on the machine, whose /proc is still visible
        with places.alive.open("w") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alive.write(pid)
            alive.flush()
            parts = components.control_plane(places, plan.tools, plan.identities)
            set_up_network = functools.partial(set_up_control_plane, plan.identities)
            serve(places, plan, places.control_plane, parts, set_up_network)
    except ConfcomError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
