"""Runs one program with a private quote helper, and removes every trace of both, however they end."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.quote_counts import QuoteCounts
from confcom.daemon.socket_path import require_usable_path
from confcom.errors import JSON_SCHEMA, shortened
from confcom.namespaces.modes import TOOLS, Mode, find_tools
from confcom.namespaces.mount_script import AESMD, DEV, HOST_DEVICE, Bind, MountScript, run_directories
from confcom.run import plan
from confcom.run.plan import Commands, Person, RunError
from confcom.simulation.collateral_staging import Staging

READY_SECONDS = 20.0
"""Deadline for the quote helper's readiness: half a second on an idle machine, several on a loaded one."""
PROBE_SECONDS = 10.0
"""Deadline for the probe of a mode, which takes 20 ms."""
POLL_SECONDS = 0.01
PAGE_SECONDS = 2.0
"""Deadline for a page of the helper's probes, which takes a millisecond."""
MAX_PAGE_BYTES = 1 << 20
"""A helper's metrics have 10 KiB."""
MAX_SOCKET_PATH_BYTES = 99
"""The longest path that a quote helper accepts: a name in the same directory has eight bytes more."""
OWN = "own"
"""The folder of the private directory for the helper's probe socket, and for the mark that the program has started."""

FOLLOWED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
"""Signals that are passed on when a process sends them. The terminal sends its own to the program, too."""
STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that stop this process only when they have stopped the program, which may ignore them."""

CLEANER = 'trap "" HUP INT QUIT TERM; read -r _; exec "$1" -rf -- "$2"'
"""Shell script that waits for the end of its input, which comes even after `kill -9`, and removes a directory."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for. Paths are absolute; `trust` is None for the directory beside the platform."""

    program: tuple[str, ...]
    mode: str
    trust: Path | None
    staging: Staging
    report: Path | None


def run_program(request: Request, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Run a program to its end, and return its exit code; ConfcomError if the program was not started."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the parent ignored it, no end of a program would be noticed
    if not request.program:
        raise RunError("no PROGRAM was given", error_code="program-missing", remedy="write it after `--`")
    person = plan.find_person(os.geteuid(), os.getegid(), environ)
    environ = _environment(person, environ)
    commands = Commands(plan.choose_mode(request.mode, person), person, find_tools(environ.get("PATH", os.defpath)))
    if missing := [name for name in TOOLS if name not in commands.tools]:
        what, remedy = f"{', '.join(missing)} missing", "install util-linux and coreutils"
        raise RunError(what, error_code="tools-missing", remedy=remedy)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(_private_directory(commands, environ))
        _require_mode(commands, directory)
        helper = stack.enter_context(_quote_helper(commands, directory, environ))
        # Imported while the quote helper starts, which takes as long, and by the user who owns the interpreter.
        from confcom.run.trust import write_trust  # noqa: PLC0415

        with _acting_as(person):
            trust, root = write_trust(request.trust, request.staging, environ)
            report = stack.enter_context(request.report.open("w")) if request.report else None
        _wait_until_ready(helper, directory)
        command, hidden = _prepared(commands, directory, request.program)
        if hidden:
            say(f"hidden from the program: the machine's own {', '.join(hidden)}")
        status = _attend(command, plan.variables(environ, commands.mode, directory / AESMD, trust), helper, say)
        code = plan.exit_code(status)
        if not (directory / OWN / "started").exists() and not os.WIFSIGNALED(status):
            raise plan.refused(commands.mode, _tail(directory / "setup.log") or f"its start exited {code}", ())
        quotes = QuoteCounts.of_metrics(_page(directory, "/metrics")).made
        verify = plan.verify_command(trust)
        if report is not None:
            facts = {"mode": commands.mode, "program": request.program, "exit_code": code, "quotes": quotes}
            facts |= {"platform": "simulated", "root_sha256": root, "trust": str(trust), "verify": verify}
            json.dump({"schema": JSON_SCHEMA, **facts}, report, indent=2)
            report.write("\n")
        say(f"{quotes} quote{'s' * (quotes != 1)}, simulated; to verify one: {verify}")
        return code


@contextlib.contextmanager
def _acting_as(person: Person) -> Iterator[None]:
    """Make files as the person, not as root. Processes are started outside of this block."""
    if not person.by_root:
        yield
        return
    os.setegid(person.gid)
    os.seteuid(person.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def _private_directory(commands: Commands, environ: Mapping[str, str]) -> Iterator[Path]:
    """Make a directory; root runs some of its files, so after sudo the person can write only in AESMD and OWN."""
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    usable = not commands.person.by_root and runtime.is_absolute() and os.access(runtime, os.W_OK)
    directory = Path(tempfile.mkdtemp(prefix="confcom-run-", dir=runtime if usable else None))
    cleaner = subprocess.Popen(
        [commands.tools["sh"], "-c", CLEANER, "sh", commands.tools["rm"], str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        require_usable_path(directory / AESMD / "aesm.socket", MAX_SOCKET_PATH_BYTES)
        for folder in ("root", AESMD, OWN):
            (directory / folder).mkdir()
        if commands.person.by_root:
            directory.chmod(0o710)
            os.chown(directory, 0, commands.person.gid)
            for folder in (AESMD, OWN):
                os.chown(directory / folder, commands.person.uid, commands.person.gid)
        yield directory
    finally:
        cleaner.communicate()


def _require_mode(commands: Commands, directory: Path) -> None:
    if commands.mode is Mode.NO_NAMESPACE:
        return
    try:
        done = subprocess.run(
            commands.probe(directory / "root"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
        words = (done.stderr or f"the probe exited {done.returncode}") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    if words:
        files = [(name, Path(name).read_text()) for name in plan.SYSCTLS if Path(name).exists()]
        raise plan.refused(commands.mode, words, files)


def _environment(person: Person, environ: Mapping[str, str]) -> Mapping[str, str]:
    if not person.by_root or person.uid == 0:
        return environ
    try:
        user = pwd.getpwuid(person.uid)
    except KeyError:
        raise RunError(f"user {person.uid} is not known", error_code="sudo-user-unknown") from None
    kept = {name: value for name, value in environ.items() if not name.startswith(("SUDO_", "XDG_"))}
    return kept | {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}


@contextlib.contextmanager
def _quote_helper(commands: Commands, directory: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    flags = ["--simulated", "--socket", str(directory / AESMD / "aesm.socket")]
    flags += ["--probe-address", f"unix:{directory / OWN / 'probe'}"]
    module = [sys.executable, "-P", "-m", "confcom.quote_helper"]
    with (directory / "helper.log").open("wb") as log:
        helper = subprocess.Popen(
            [*commands.as_person, *commands.tied, *module, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={name: value for name, value in environ.items() if not name.startswith(("CONFCOM_", "SGX_"))},
            start_new_session=True,
        )
    try:
        yield helper
    finally:
        helper.kill()  # all that it has is in the private directory
        helper.wait()


def _wait_until_ready(helper: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _page(directory, "/readyz").partition("\n")[0].count(" 200 "):
        if helper.poll() is not None or time.monotonic() > deadline:
            why = _tail(directory / "helper.log")
            raise RunError("the quote helper did not become ready", error_code="quote-helper-not-ready", why=why)
        time.sleep(POLL_SECONDS)


def _page(directory: Path, name: str) -> str:
    """Return the answer of the helper's probe server, with its headers; empty if there is none yet."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(PAGE_SECONDS)
        connection.connect(str(directory / OWN / "probe"))
        connection.sendall(f"GET {name} HTTP/1.0\r\n\r\n".encode())
        while len(answer) < MAX_PAGE_BYTES and (part := connection.recv(65536)):
            answer += part
    return answer.decode(errors="replace")


def _prepared(commands: Commands, directory: Path, program: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Write the start script; return the program's command line, and the machine's entries that it hides."""
    script, hidden = MountScript(commands.tools, directory / "root"), list[str]()
    if commands.mode is not Mode.NO_NAMESPACE:
        runs, devices = run_directories(), plan.sgx_devices(entry.name for entry in DEV.iterdir())
        hidden = [str(path) for run in runs if (path := run / AESMD).exists()] + [f"/dev/{one}" for one in devices]
        for rebuilt, without in [*((run, {AESMD}) for run in runs), (DEV, devices)]:
            script.copy_directory(rebuilt, without=without)
        script.bind(Bind(directory / AESMD, f"/var/run/{AESMD}"))
        script.bind(Bind(Path(HOST_DEVICE), "/dev/sgx_enclave"))
        for rebuilt in (*runs, DEV):
            script.move(rebuilt)
    start = directory / "start.sh"
    start.write_bytes(os.fsencode(commands.script(script.lines, directory / "setup.log", directory / OWN / "started")))
    return [*commands.tied, *commands.enter, commands.tools["sh"], str(start), *program], hidden


def _attend(
    command: list[str], environ: Mapping[str, str], helper: subprocess.Popen[bytes], say: Callable[[str], None]
) -> int:
    """Start a command in this process group, pass signals on until it ends, and return its wait status."""
    watched = {signal.SIGCHLD, *FOLLOWED, *STOPS}
    ignored = {number for number in FOLLOWED if signal.getsignal(number) is signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # Python ignores these two signals; a program expects them as they were.
    restored = [signal.SIGPIPE, signal.SIGXFSZ]
    pid, told = os.posix_spawn(command[0], command, environ, setsigmask=before, setsigdef=restored), False
    while True:
        received = signal.sigwaitinfo(watched)
        if received.si_signo in FOLLOWED and received.si_code <= 0 and received.si_signo not in ignored:
            os.kill(pid, received.si_signo)
        changed, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if changed and not os.WIFSTOPPED(status):
            return status
        if changed:
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell that started us takes the terminal
            os.kill(pid, signal.SIGCONT)
        elif helper.poll() is not None and not told:
            told = True
            say(f"the quote helper has ended ({helper.returncode}); there are no more quotes")


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return shortened(" / ".join(log.read_text(errors="replace").splitlines()[-3:]))
    return ""
