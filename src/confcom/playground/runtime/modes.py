"""The modes in which containers are isolated, and the choice of one that works on this machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from confcom.errors import SettingsError, UnavailableError
from confcom.playground.api.views import DeviceView
from confcom.playground.runtime.container_plan import HOST_DEVICE, Bind, ContainerPlan
from confcom.playground.runtime.machine import Machine, Programs, Tools
from confcom.playground.runtime.root_file_system import root_script

PROBE_SECONDS = 10.0
"""Deadline of a probe container, which takes about 0.1 s; a machine that needs this long could run nothing else."""

AUTO = "auto"
"""Selects the first mode that works."""


class Mode(StrEnum):
    """The three modes."""

    ROOT = "root"
    """Mount and PID namespaces, created by root."""
    USER_NAMESPACE = "user-namespace"
    """The same, created by any user in a new user namespace."""
    NO_NAMESPACE = "no-namespace"
    """Plain processes; environment variables tell our client the real paths."""

    @property
    def explanation(self) -> str:
        """One sentence for the user."""
        return {
            Mode.ROOT: "containers get a file system and processes of their own",
            Mode.USER_NAMESPACE: "containers get a file system and processes of their own, without root",
            Mode.NO_NAMESPACE: "containers are plain processes: CONFCOM_AESM_SOCKET tells our client where the socket "
            "is, and a stock client would not find it",
        }[self]


@dataclass(frozen=True, slots=True)
class ChosenMode:
    """A mode that works here, the reason for the choice, and the programs that start containers."""

    mode: Mode
    reason: str
    prefix: tuple[str, ...]
    """The command that runs a shell script in new namespaces; empty without namespaces."""
    tools: Tools


def choose_mode(wanted: str = AUTO, programs: Programs | None = None, *, scratch: Path | None = None) -> ChosenMode:
    """Choose the wanted mode, or the best one that works.

    Args:
        wanted: a Mode's value, or AUTO.
        programs: the machine's programs; by default `Programs.find()`.
        scratch: the directory in which the probe creates its own, for callers that remove it in any case; by default
            the system's directory for temporary files.

    Raises:
        UnavailableError: the machine lacks a program that every mode needs.
        SettingsError: the wanted mode does not work here.
    """
    programs = programs or Programs.find()
    tools = programs.tools
    if tools is None:
        raise UnavailableError(
            "containers cannot be started on this machine",
            error_code="programs-missing",
            why="mount(8), chroot(8), env(1), sh(1), mkdir(1) or ln(1) is missing",
            remedy="install coreutils and util-linux",
        )
    reasons: list[str] = []
    for mode in Mode if wanted == AUTO else (Mode(wanted),):
        command = prefix(mode, programs)
        obstacle = obstacle_to(mode, command, tools, scratch)
        if not obstacle:
            reason = "asked for" if wanted != AUTO else "; ".join(reasons) or "it works here"
            return ChosenMode(mode, reason, command, tools)
        reasons.append(f"not {mode}: {obstacle}")
    raise SettingsError(
        f"the mode {wanted} does not work on this machine",
        error_code="mode-not-usable",
        why="; ".join(reasons),
        remedy="leave --mode out, and the best that works is taken",
    )


def prefix(mode: Mode, programs: Programs) -> tuple[str, ...]:
    """Return the command that runs a script in new namespaces; empty in the mode without, or if a program is missing.

    All processes in the namespaces end with the process that started the command. `setpriv` sets the parent-death
    signal of unshare(1), so that the kernel kills unshare when its parent ends in any way. With --kill-child the child
    of unshare is killed then. That child is process 1 of its PID namespace, so the kernel kills all others there.
    """
    if mode is Mode.NO_NAMESPACE or programs.setpriv is None or programs.unshare is None:
        return ()
    user = ("--user", "--map-root-user") if mode is Mode.USER_NAMESPACE else ()
    namespaces = ("--mount", "--pid", "--fork", "--kill-child")
    return (programs.setpriv, "--pdeathsig", "KILL", programs.unshare, *user, *namespaces)


def obstacle_to(mode: Mode, command: tuple[str, ...], tools: Tools, scratch: Path | None = None) -> str:
    """Return why a mode does not work here, or "" if it works.

    The probe runs a real container with a bound device and a bound directory, since some systems allow the namespace
    but deny the mount (Ubuntu 24.04 with its AppArmor restriction on user namespaces).
    """
    if mode is Mode.NO_NAMESPACE:
        return ""
    if mode is Mode.ROOT and os.geteuid() != 0:
        return "not running as root"
    if not command:
        return "setpriv(1) or unshare(1) is missing (package util-linux)"
    with tempfile.TemporaryDirectory(prefix="confcom-probe-", dir=scratch) as name:
        return _run_probe(command, Path(name), tools)


def _run_probe(command: tuple[str, ...], directory: Path, tools: Tools) -> str:
    (root := directory / "root").mkdir()
    (source := directory / "source").mkdir()
    ready = directory / "ready"
    plan = ContainerPlan(
        argv=(tools.sh, "-c", ": > /dev/confcom-probe && test -d /confcom-probe"),
        env={},
        working_dir="/",
        devices=(DeviceView("/dev/confcom-probe", HOST_DEVICE, "rw"),),
        mounts=(),
        binds=(Bind(source, PurePosixPath("/confcom-probe"), read_only=True),),
    )
    script = root_script(plan, Machine(), tools, root=root, ready=ready)
    try:
        done = subprocess.run(
            [*command, tools.sh, "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    words = " / ".join(done.stderr.decode(errors="replace").split("\n")[-3:]).strip(" /")
    return words or f"the probe container exited {done.returncode}"
