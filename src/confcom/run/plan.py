"""What `confcom run` decides: who runs the program, in which mode, by which commands, with which variables and code."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import SIGNAL_EXIT_BASE, ConfcomError, ExitCode
from confcom.namespaces.modes import AUTO, Mode

MAX_CAUSE_CHARACTERS = 300
"""Maximum number of characters that an error quotes from util-linux: two of its lines."""

VARIABLES = ("CONFCOM_AESM_SOCKET", "CONFCOM_AESM_DIR", "CONFCOM_SGX_ENCLAVE_DEVICE", "CONFCOM_TRUST", "SGX_AESM_ADDR")
"""The variables that tell a program where AESM is: the values that confcom was started with are not passed on."""

_SGX_DEVICE = re.compile(r"sgx(_.+)?|isgx")

SYSCTLS = {
    "/proc/sys/user/max_user_namespaces": ("0", "user.max_user_namespaces is 0"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone is 0"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu 23.10 and later",
    ),
}
"""Keyed by a file of the kernel: the value that forbids user namespaces to users, and what it means."""


class RunError(ConfcomError):
    """`confcom run` could not run the program."""

    error_code = "run-failed"
    exit_code = ExitCode.RUN_FAILED


@dataclass(frozen=True, slots=True)
class Person:
    """The user who runs the program: the process's own, or the one who called sudo."""

    uid: int
    gid: int
    by_root: bool
    """Whether root starts the program for this user."""


def find_person(uid: int, gid: int, environ: Mapping[str, str]) -> Person:
    """Return who runs the program; `uid` and `gid` are the process's effective IDs."""
    if uid != 0:
        return Person(uid, gid, by_root=False)
    try:
        return Person(int(environ.get("SUDO_UID", "0")), int(environ.get("SUDO_GID", "0")), by_root=True)
    except ValueError:
        raise RunError(
            "SUDO_UID and SUDO_GID are not numbers",
            error_code="sudo-user-unknown",
            why="the program runs as the user who called sudo",
            remedy="unset both to run it as root",
        ) from None


def choose_mode(wanted: str, person: Person) -> Mode:
    """Return the mode. AUTO never means NO_NAMESPACE, in which most programs would not find the socket."""
    if wanted == AUTO:
        return Mode.ROOT if person.by_root else Mode.USER_NAMESPACE
    if Mode(wanted) is Mode.ROOT and not person.by_root:
        raise refused(Mode.ROOT, "this process is not root", ())
    return Mode(wanted)


def refused(mode: Mode, words: str, sysctls: Iterable[tuple[str, str]]) -> RunError:
    """Return the error for a mode that does not work here; `sysctls` are files of SYSCTLS with their content."""
    causes = [meaning for name, value in sysctls for bad, meaning in (SYSCTLS[name],) if value.strip() == bad]
    why = "; ".join([" ".join(words.split())[-MAX_CAUSE_CHARACTERS:], *(causes if mode is Mode.USER_NAMESPACE else ())])
    return RunError(
        f"the mode {mode} does not work on this machine",
        error_code="mode-refused",
        why=why,
        remedy="use `sudo confcom run`, or `--mode no-namespace`, which only confcom.client and containers can use: "
        "`podman run -e SGX_AESM_ADDR=1 -v $CONFCOM_AESM_DIR:/var/run/aesmd`",
    )


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of util-linux that run a program in a mode."""

    mode: Mode
    person: Person
    tools: Mapping[str, str]

    @property
    def tied(self) -> list[str]:
        """The kernel kills a command with this prefix when confcom ends, however it ends."""
        return [self.tools["setpriv"], "--pdeathsig", "KILL", "--"]

    @property
    def as_person(self) -> list[str]:
        if not self.person.by_root or self.person.uid == 0:
            return []
        ids = ["--reuid", str(self.person.uid), "--regid", str(self.person.gid), "--init-groups"]
        return [self.tools["setpriv"], *ids, "--"]

    @property
    def enter(self) -> list[str]:
        """Return the prefix of the command that mounts."""
        user = ["--user", "--map-root-user"] if self.mode is Mode.USER_NAMESPACE else []
        return [] if self.mode is Mode.NO_NAMESPACE else [self.tools["unshare"], *user, "--mount", "--"]

    @property
    def leave(self) -> list[str]:
        """Return the prefix of the command after the mounts: it gives up the rights that mounting needed."""
        if self.mode is not Mode.USER_NAMESPACE:
            return self.as_person
        ids = [f"--map-user={self.person.uid}", f"--map-group={self.person.gid}"]
        return [self.tools["unshare"], "--user", *ids, "--"]

    def probe(self, directory: Path) -> list[str]:
        mount = shlex.join([self.tools["mount"], "-n", "-t", "tmpfs", "confcom", str(directory)])
        return [*self.enter, self.tools["sh"], "-c", f"{mount} && exec {shlex.join([*self.leave, *self.tied])} true"]

    def script(self, mounts: Sequence[str], log: Path, mark: Path) -> str:
        """Return the shell script that mounts, makes the file `mark`, and executes its arguments."""
        start = f': > "$0" && exec {shlex.join(self.tied)} "$@"'
        last = [*self.leave, self.tools["sh"], "-c", start, str(mark)]
        setup = ["set -e", "{", ":", *mounts, f"}} 2> {shlex.quote(str(log))}"]
        return "\n".join([*setup, f'exec {shlex.join(last)} "$@"', ""])


def variables(environ: Mapping[str, str], mode: Mode, directory: Path, trust: Path) -> dict[str, str]:
    """Return the program's environment; the socket is in `directory`, root and collateral are in `trust`."""
    own = {"SGX_AESM_ADDR": "1", "CONFCOM_AESM_DIR": str(directory), "CONFCOM_TRUST": str(trust)}
    if mode is Mode.NO_NAMESPACE:
        own |= {"CONFCOM_AESM_SOCKET": f"{directory}/aesm.socket", "CONFCOM_SGX_ENCLAVE_DEVICE": os.devnull}
    return {name: value for name, value in environ.items() if name not in VARIABLES} | own


def sgx_devices(names: Iterable[str]) -> set[str]:
    """Return which entries of /dev belong to SGX, with the names of all its drivers."""
    return {name for name in names if _SGX_DEVICE.fullmatch(name)}


def exit_code(status: int) -> int:
    """Return a shell's exit code for a program's wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNAL_EXIT_BASE - code


def verify_command(trust: Path) -> str:
    files = ["--root", str(trust / "root.pem"), "--collateral", str(trust / "collateral")]
    return f"confcom verify QUOTE {shlex.join(files)} --allow-simulated"
