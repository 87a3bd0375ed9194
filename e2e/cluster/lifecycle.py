"""Bring the cluster up and take it down, from outside of its namespaces.

The control plane's first process, whose PID namespace contains all others, holds a lock on a file for as long
as it lives. If the lock is free, only folder and control groups can be left; `down` and `up` remove these.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from confcom.errors import ConfcomError, SettingsError, UnavailableError
from e2e.cluster import certificates, cgroups, components
from e2e.cluster.addresses import Places
from e2e.cluster.isolation import make_groups, separated
from e2e.cluster.plan import Plan
from e2e.cluster.tools import ROOT

FOLDER_BYTES = 60
"""Longest path of the cluster's folder: sockets below it must stay under 108 bytes (unix(7))."""

DOWN_SECONDS = 30.0
"""Seconds for the kernel to end every process of the namespace; usually one second."""

OURS = "confcom-e2e"
"""A file that marks a cluster's folder."""

READY = b"ready\n"
"""Line that the first host prints when all components answer."""


def default_folder() -> Path:
    """Folder of a cluster's files: CONFCOM_E2E_FOLDER, or a short name in the folder for temporary files."""
    return Path(os.environ.get("CONFCOM_E2E_FOLDER") or "/tmp/confcom-e2e")  # noqa: S108  (checked by `alone`)


@contextlib.contextmanager
def alone(folder: Path, *, create: bool) -> Iterator[bool]:
    """Lock the folder against every other `up` and `down`; yield whether the folder exists."""
    _check(folder)
    while True:
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is(folder, descriptor):  # another `down` removed the folder while this process waited
                continue
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise SettingsError(
                    f"{folder} cannot be used", why="it is somebody else's", remedy="choose another: CONFCOM_E2E_FOLDER"
                )
            yield True
            return
        finally:
            os.close(descriptor)


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _check(folder: Path) -> None:
    if os.geteuid():
        raise UnavailableError("the cluster needs root", why="it makes namespaces", remedy="run this as root")
    why = ""
    if not folder.is_absolute() or len(os.fsencode(folder)) > FOLDER_BYTES or " " in str(folder):
        why = f"it has to be an absolute path of at most {FOLDER_BYTES} bytes without spaces"
    elif folder.is_dir() and any(folder.iterdir()) and not (folder / OURS).is_file():
        why = "it holds something else, and would be removed by `down`"
    if why:
        raise SettingsError(
            f"{folder} cannot be the cluster's folder", why=why, remedy="choose another: CONFCOM_E2E_FOLDER"
        )


def first_pid(places: Places) -> int | None:
    """Pid of the control plane's first process in the machine's PID namespace, if it lives."""
    with contextlib.suppress(FileNotFoundError), places.alive.open() as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = alive.read()
            return int(text) if text else None
    return None


def start(places: Places, plan: Plan) -> int:
    """Start everything in a locked and empty folder; return the first pid when all components answer."""
    (places.folder / OURS).write_text("The folder of a cluster for tests; `make e2e-down` removes it.\n")
    places.home.mkdir()
    for host in (places.control_plane, *map(places.node, plan.identities)):
        host.make()
    plan.write(places.plan)
    certificates.write_all(places.certificates, plan.identities)
    components.write_settings(places, plan.identities)
    hierarchies = _hierarchies()
    groups = make_groups(group_name(places), hierarchies)
    program = (sys.executable, "-m", "e2e.cluster.host", str(places.folder))
    command = ["setsid", "--fork", *separated(groups, hierarchies, program)]
    log = places.logs / "host.log"
    with log.open("wb") as output:
        launcher = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output)
    with launcher:  # the launcher is setsid, which ends at once
        ready = launcher.stdout and READY in launcher.stdout  # the output ends when the host ends
    pid = first_pid(places)
    if not ready or pid is None:
        said = log.read_text(errors="replace").strip()
        raise ConfcomError("the cluster does not start", why=said or "its first process said nothing", remedy=str(log))
    return pid


def end(places: Places) -> None:
    """End all processes and remove all remains, also of a crashed cluster; the caller locked the folder."""
    pid = first_pid(places)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            _kill(pid, places)
    cgroups.remove([hierarchy.mountpoint / group_name(places) for hierarchy in _hierarchies()])
    shutil.rmtree(places.folder)


def _kill(pid: int, places: Places) -> None:
    watched = os.pidfd_open(pid)
    try:
        if first_pid(places) != pid:  # the process ended just now, and another process may have its number
            return
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        if not select.select([watched], [], [], DOWN_SECONDS)[0]:  # readable when the whole namespace is gone
            raise ConfcomError("the cluster's processes do not end", remedy=f"see /proc/{pid}/status")
    finally:
        os.close(watched)


def group_name(places: Places) -> str:
    """Name of the cluster's control group; each folder has its own name."""
    return f"confcom-e2e-{hashlib.sha256(os.fsencode(places.folder)).hexdigest()[:8]}"


def _hierarchies() -> tuple[cgroups.Hierarchy, ...]:
    return cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())


def interrupt_on_signals() -> None:
    """Let SIGTERM and a closed terminal end `up` in the same way as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
