"""One node, with the methods that tests use; and orders to the first process of any host."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypedDict, Unpack

from confcom.errors import ConfcomError, UnavailableError
from e2e.cluster.addresses import HostPlaces, NodeIdentity, Places

COMMAND_SECONDS = 120.0
"""Default seconds for one command in the cluster, so that a hanging command does not hang the test."""

ERROR_CHARACTERS = 4000
"""Number of characters from the end of a failed command's output that an error shows."""


ORDER_SECONDS = 120.0
"""Seconds for carrying out an order: starting a node may take as long as its three components."""

ANSWER_BYTES = 65536
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid (unix(7), SO_PEERCRED)."""


class CommandError(ConfcomError):
    """A command in the cluster failed."""


class RunOptions(TypedDict, total=False):
    """Options for a command: standard input, whether a failure is an error (the default), and its time limit."""

    input: str
    check: bool
    timeout: float


def entering(pid: int, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in all namespaces of a process, in the same working directory."""
    enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]
    return [*enter, f"--wd={Path.cwd()}", "--", *command]


def run_entering(
    pid: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    **options: Unpack[RunOptions],
) -> subprocess.CompletedProcess[str]:
    """Run a command in all namespaces of a process, with these variables added to this process's."""
    line, timeout = " ".join(command), options.get("timeout", COMMAND_SECONDS)
    try:
        done = subprocess.run(
            entering(pid, command),
            input=options.get("input", ""),
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{line}` did not end", why=f"it had {timeout:.0f} s", remedy="see the logs") from error
    if options.get("check", True) and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-ERROR_CHARACTERS:]
        raise CommandError(f"`{line}` ended with {done.returncode}", why=said)
    return done


def order(control: Path, verb: str, component: str, *, program: Path | None = None) -> None:
    """Order a host to stop, kill or start a component, with its old or a new program; return when done."""
    _answer(control, {"order": verb, "component": component, **({"program": str(program)} if program else {})})


def stopped(control: Path) -> tuple[str, ...]:
    return tuple(_answer(control, {"order": "list"})["stopped"])


def _answer(control: Path, request: Mapping[str, str]) -> dict[str, Any]:
    with _connected(control) as client:
        client.settimeout(ORDER_SECONDS)
        client.sendall(json.dumps(request).encode())
        received = client.recv(ANSWER_BYTES)
    if not received:
        raise ConfcomError(f"the host ended: {' '.join(request.values())}", remedy="see the logs of its components")
    answer: dict[str, Any] = json.loads(received)
    if error := answer.get("error"):
        raise ConfcomError(f"{' '.join(request.values())}: {error}")
    return answer


def _connected(control: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(control))
    except OSError as error:
        client.close()
        raise UnavailableError(
            f"the host {control.parent.name} does not answer", why=f"{error.strerror}", remedy="start it"
        ) from error
    return client


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a running cluster; it may be off. kubectl, helm and ctr work with the variables in `environment`."""

    identity: NodeIdentity
    cluster: Places
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def places(self) -> HostPlaces:
        return self.cluster.node(self.identity)

    @property
    def kubelet_log(self) -> Path:
        """Log file for `e2e.kubelet_log.KubeletLog`; every start of the kubelet appends to it."""
        return self.places.logs / "kubelet.log"

    @property
    def pid(self) -> int:
        """Pid of the node's first process in this process's PID namespace; fails if the node is off."""
        with _connected(self.places.control) as client:
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(credentials)[0]
        return pid

    def inside(self, path: PurePath) -> Path:
        """Path outside of the node for a path on the node, sockets included; valid until the next reboot."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def entering(self, command: Sequence[str]) -> list[str]:
        return entering(self.pid, command)

    def run(self, command: Sequence[str], **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        return run_entering(self.pid, command, self.environment, **options)

    def import_image(self, archive: Path) -> None:
        self.run(["ctr", "images", "import", "--local", str(archive.absolute())])

    def stop(self, component: str) -> None:
        order(self.places.control, "stop", component)

    def kill(self, component: str) -> None:
        order(self.places.control, "kill", component)

    def start(self, component: str, program: Path | None = None) -> None:
        """Start a component; return once it answers. The component uses `program` until a reboot."""
        order(self.places.control, "start", component, program=program)

    def restart(self, component: str) -> None:
        self.stop(component)
        self.start(component)

    def reboot(self) -> None:
        """End the node's processes at once, and start the node again with new /run and /dev, and its old /var."""
        order(self.cluster.control_plane.control, "stop", self.name)
        order(self.cluster.control_plane.control, "start", self.name)
