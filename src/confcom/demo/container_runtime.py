"""Starts containers: processes, with their own namespaces if the machine allows namespaces. Chooses the mode.

A shell script builds a container's root file system from the machine's files and a new /dev, /proc and /run. The
script runs in a new mount namespace and uses a tmpfs, so it creates nothing on the machine, not even mount points.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from confcom.demo.device_manager import Allocation
from confcom.demo.job_file import Job
from confcom.errors import ConfcomError, SettingsError

TOOLS = ("chroot", "env", "ln", "mkdir", "mount", "setpriv", "sh", "unshare")
"""The programs that start a container with namespaces."""

PROBE_SECONDS = 10.0
"""Deadline in seconds of a probe container, which usually takes 0.1 s. A slower machine cannot run the demo."""

MAX_MESSAGE_BYTES = 2048
"""Maximum number of bytes that the error quotes from the end of a failed start's output."""

SIGNAL_EXIT_BASE = 128
"""If a signal ends a program, its exit code is this number plus the signal's number (shells, runtimes)."""

AUTO = "auto"

HOST_DEVICE = "/dev/null"
"""The only device that containers can get. At SGX's paths, this device is the simulated enclave device."""

SAMPLE_WORKLOAD = "registry.test/confcom/sample-workload:latest"

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that container runtimes set if the image sets no PATH."""


DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")
"""The devices that the OCI runtime specification gives every container; they are bound from the machine."""

_DEV, _PROC = Path("/dev"), Path("/proc")
_DEV_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_RUN = ("/run", "/var/run")
_AESMD = "aesmd"
"""The folder of the machine's own aesmd, which is hidden: quotes must come from the demo's quote helper."""
_LOCKED_FLAGS = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
"""Mount flags that the kernel locks (mount_namespaces(7)); a remount in a user namespace must repeat them."""


class Mode(StrEnum):
    ROOT = "root"
    """Only root can start containers, with new mount and PID namespaces."""
    USER_NAMESPACE = "user-namespace"
    """Any user can start containers: a new user namespace contains their new mount and PID namespaces."""
    NO_NAMESPACE = "no-namespace"
    """Containers are plain processes. Nothing is mounted, so variables tell our client the real paths."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: variables, and a program on this machine, because the demo pulls nothing from a registry."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class ContainerError(ConfcomError):
    """A container cannot be created."""

    error_code = "container-not-created"


@dataclass(frozen=True, slots=True)
class Bind:
    source: Path
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    """In mount order: parents first."""


def sample_image(environ: Mapping[str, str]) -> Image:
    """Return the examples' image. The image's program can import the same modules as this interpreter."""
    env = {"PATH": DEFAULT_PATH, "HOME": environ.get("HOME", "/")}
    if "PYTHONPATH" in environ:
        env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, environ["PYTHONPATH"].split(os.pathsep)))
    # -P keeps Python from importing from the working directory.
    return Image((sys.executable, "-P", "-m", "confcom.sample_workload"), env)


def plan_container(job: Job, image: Image, allocation: Allocation, node_root: Path) -> ContainerPlan:
    """Combine a Job, its image and its allocated devices in the way of a kubelet and a container runtime."""
    for device in allocation.devices:
        if device.host_path != HOST_DEVICE:
            raise ContainerError(
                f"the device {device.host_path} is not given out",
                error_code="device-not-given-out",
                why=f"the demo gives out no device of the machine but {HOST_DEVICE}",
            )
    binds = {device.container_path: Bind(Path(HOST_DEVICE), device.container_path) for device in allocation.devices}
    for mount in (*allocation.mounts, *job.mounts):  # for equal paths, the user's mount replaces the plugin's
        source = node_root / mount.host_path.lstrip("/")
        binds[mount.container_path] = Bind(source, mount.container_path, mount.read_only)
    return ContainerPlan(
        argv=(*(job.command or image.argv), *job.args),
        env={**image.env, **allocation.envs, **job.env},
        binds=tuple(sorted(binds.values(), key=lambda bind: bind.container_path.count("/"))),
    )


@dataclass(frozen=True, slots=True)
class ContainerProcess:
    """A started container: its first process, which leads a new session, and the files that its start uses."""

    process: asyncio.subprocess.Process
    ready: Path | None
    """A file that exists as soon as everything is mounted; None in the mode without namespaces."""
    setup_log: Path

    async def wait(self) -> int:
        """Wait for the container's end, and return its exit code (SIGNAL_EXIT_BASE + N after signal N)."""
        code = await self.process.wait()
        self._signal(signal.SIGKILL)
        if self.ready is not None and not self.ready.exists():
            output = self.setup_log.read_bytes()[-MAX_MESSAGE_BYTES:].decode(errors="replace")
            raise _not_started(" ".join(output.split()) or f"its start exited {code}")
        return code if code >= 0 else SIGNAL_EXIT_BASE - code

    async def stop(self, grace_seconds: float) -> None:
        """Send SIGTERM to the container's process group, wait, then send SIGKILL."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.process.wait()
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def _not_started(why: str) -> ContainerError:
    return ContainerError("the container could not be started", error_code="container-not-started", why=why)


@dataclass(frozen=True, slots=True)
class ContainerRuntime:
    mode: Mode
    tools: Mapping[str, str]
    mark: Mapping[str, str]
    """The environment variable by which the guardian finds the demo's processes."""
    reason: str = ""
    """The reason why better modes do not work here; empty for the best mode."""

    async def start(self, plan: ContainerPlan, directory: Path, log: Path) -> ContainerProcess:
        try:
            root, setup_log = directory / "rootfs", directory / "setup.log"
            root.mkdir(parents=True)
            for bind in plan.binds:
                if not bind.source.exists():
                    bind.source.mkdir(parents=True)  # as container runtimes do
            ready: Path | None = None
            if self.mode is Mode.NO_NAMESPACE:
                command, env = plan.argv, {**_real_paths(plan), **plan.env, **self.mark}
            else:
                ready = directory / "ready"
                script = root_script(plan, self.tools, root=root, ready=ready)
                start = directory / "start.sh"
                start.write_bytes(os.fsencode(script))  # a folder's name may be any bytes
                command, env = (*self._unshare(), self.tools["sh"], str(start)), dict(self.mark)
            with log.open("ab") as output, setup_log.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors if ready else output,
                    cwd="/",
                    env=env,
                    start_new_session=True,
                )
            return ContainerProcess(process, ready, setup_log)
        except OSError as error:
            raise _not_started(str(error)) from None

    def _unshare(self) -> tuple[str, ...]:
        """Return the command that runs a script in new namespaces.

        All processes in the namespaces end with the demo. `setpriv` sets unshare(1)'s parent-death signal, so
        that the kernel kills unshare whenever the demo ends. With --kill-child, the end of unshare also kills its
        child, which is process 1 of the PID namespace. The kernel then kills the namespace's other processes.
        """
        user = ("--user", "--map-root-user") if self.mode is Mode.USER_NAMESPACE else ()
        namespaces = ("--mount", "--pid", "--fork", "--kill-child")
        return (self.tools["setpriv"], "--pdeathsig", "KILL", self.tools["unshare"], *user, *namespaces)


def _real_paths(plan: ContainerPlan) -> dict[str, str]:
    sources = {os.path.realpath(bind.container_path): str(bind.source) for bind in plan.binds}
    aesmd, device = sources.get(os.path.realpath("/var/run/aesmd")), sources.get("/dev/sgx_enclave")
    found = {"CONFCOM_AESM_SOCKET": f"{aesmd}/aesm.socket"} if aesmd else {}
    return found | ({"CONFCOM_SGX_ENCLAVE_DEVICE": device} if device else {})


def find_tools(path: str) -> dict[str, str]:
    search = os.pathsep.join([path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    return {name: place for name in TOOLS if (place := shutil.which(name, path=search))}


async def choose_runtime(
    wanted: str, tools: Mapping[str, str], mark: Mapping[str, str], scratch: Path
) -> ContainerRuntime:
    """Return a runtime with the wanted mode (a Mode's value); AUTO means the best mode that works."""
    reasons: list[str] = []
    for mode in Mode if wanted == AUTO else (Mode(wanted),):
        runtime = ContainerRuntime(mode, tools, mark, "; ".join(reasons))
        obstacle = await _obstacle(runtime, scratch / f"probe-{mode}")
        if not obstacle:
            return runtime
        reasons.append(f"not {mode}: {obstacle}")
    raise SettingsError(
        f"the mode {wanted} does not work on this machine",
        error_code="mode-not-usable",
        why="; ".join(reasons),
        remedy="leave out --mode: the demo then uses the best mode that works",
    )


async def _obstacle(runtime: ContainerRuntime, directory: Path) -> str:
    """Return why a mode does not work on this machine, or "" if the mode works.

    The probe is a real container with a device and a directory. Some systems allow the namespace but deny the
    mount, such as Ubuntu 24.04 with its AppArmor restriction on user namespaces.
    """
    if runtime.mode is Mode.NO_NAMESPACE:
        return ""
    if runtime.mode is Mode.ROOT and os.geteuid() != 0:
        return "not running as root"
    if missing := [name for name in TOOLS if name not in runtime.tools]:
        return f"{', '.join(missing)} missing (packages util-linux and coreutils)"
    binds = (
        Bind(Path(HOST_DEVICE), "/dev/confcom-probe"),
        Bind(directory / "source", "/run/confcom-probe", read_only=True),
    )
    argv = (runtime.tools["sh"], "-c", ": > /dev/confcom-probe && test -d /run/confcom-probe")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            process = await runtime.start(
                ContainerPlan(argv, binds=binds), directory / "start", directory / "source/log"
            )
            code = await process.wait()
    except ContainerError as error:
        return error.why
    except TimeoutError:
        return f"the probe container took longer than {PROBE_SECONDS:g} s"
    return f"the probe container exited {code}" if code else ""


def root_script(plan: ContainerPlan, tools: Mapping[str, str], *, root: Path, ready: Path) -> str:
    """Return the script that builds the root and executes the container's program with stderr sent to stdout.

    The script mounts the new root over the empty directory `root`, and creates the file `ready` afterwards.
    """
    script = _Script(tools, root)
    script.copy_directory(Path("/"), without={_DEV.name, _PROC.name})
    for run in dict.fromkeys(os.path.realpath(path) for path in _RUN):
        script.copy_directory(Path(run), without={_AESMD})
    script.proc()
    script.dev()
    for bind in plan.binds:
        script.bind(bind)
    variables = [f"{name}={value}" for name, value in plan.env.items()]
    script.lines.append(f": > {shlex.quote(str(ready))}")
    words = [tools["chroot"], str(root), tools["env"], "-i", "--", *variables, *plan.argv]
    script.lines.append(f"exec {shlex.join(words)} 2>&1")
    return "\n".join(["set -e", *script.lines, ""])


class _Script:
    def __init__(self, tools: Mapping[str, str], root: Path) -> None:
        self.lines: list[str] = []
        self._tools = tools
        self._root = root
        self._own = {_DEV}
        """Directories on a tmpfs of the container, in which mount points can be created."""

    def copy_directory(self, directory: Path, *, without: Collection[str]) -> None:
        self._tmpfs(directory)
        self._own.add(directory)
        names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
        # Bind the directory that contains the new root first; later, it would contain the mounts made so far.
        for name in sorted(names, key=lambda name: directory / name not in self._root.parents):
            if name not in without:
                self._copy(directory / name)

    def proc(self) -> None:
        self._run("mkdir", "-p", self._at(_PROC))
        new = self._mount("-t", "proc", "proc", self._at(_PROC))
        # If parts of /proc are hidden (as in containers), the kernel refuses to mount a complete /proc.
        self.lines.append(f"{new} 2>/dev/null || {self._mount('--rbind', '/proc', self._at(_PROC))}")

    def dev(self) -> None:
        # The mode must be 755: in a world-writable, sticky directory, open(O_CREAT) fails on a device node.
        self._tmpfs(_DEV)
        for name in DEVICE_NODES:
            if (_DEV / name).exists():
                self._copy(_DEV / name)
        for name, target in _DEV_LINKS.items():
            self._run("ln", "-s", target, self._at(_DEV / name))
        self._tmpfs(_DEV / "shm", mode="1777")

    def bind(self, bind: Bind) -> None:
        """Add one mount, at the path with links resolved, such as /run/aesmd for /var/run/aesmd."""
        target = Path(os.path.realpath(bind.container_path))
        own = self._own & set(target.parents)
        if own == {Path("/")} and (Path("/") / target.parts[1]).exists() and not target.exists():
            raise ContainerError(
                f"nothing can be mounted at {bind.container_path}",
                error_code="mount-point-missing",
                why="the demo creates mount points only below /run, and in new directories of /",
                remedy="choose another mountPath",
            )
        if bind.source.is_dir():
            self._run("mkdir", "-p", self._at(target))
        else:
            self._run("mkdir", "-p", self._at(target.parent))
            self.lines.append(f": >> {shlex.quote(self._at(target))}")
        self.lines.append(self._mount("--bind", str(bind.source), self._at(target)))
        if bind.read_only:
            locked = os.statvfs(bind.source).f_flag
            flags = [name for flag, name in _LOCKED_FLAGS.items() if locked & flag]
            options = ",".join(["remount", "bind", "ro", *flags])
            self.lines.append(self._mount("-o", options, self._at(target)))

    def _copy(self, path: Path) -> None:
        """Show a file or directory of the machine at the same path; show an empty one if the mount fails."""
        if path.is_symlink():
            self._run("ln", "-s", "--", str(path.readlink()), self._at(path))
        elif path.is_dir():
            self._run("mkdir", "-p", self._at(path))
            self.lines.append(f"{self._mount('--rbind', str(path), self._at(path))} || :")
        else:
            self.lines.append(f": > {shlex.quote(self._at(path))}")
            self.lines.append(f"{self._mount('--bind', str(path), self._at(path))} || :")

    def _tmpfs(self, path: Path, mode: str = "755") -> None:
        self._run("mkdir", "-p", self._at(path))
        self.lines.append(self._mount("-t", "tmpfs", "-o", f"mode={mode}", "confcom-demo", self._at(path)))

    def _at(self, path: Path) -> str:
        return str(self._root.joinpath(*path.parts[1:]))

    def _mount(self, *arguments: str) -> str:
        # -n keeps mount(8) from writing to the machine's /run/mount.
        return shlex.join([self._tools["mount"], "-n", *arguments])

    def _run(self, tool: str, *arguments: str) -> None:
        self.lines.append(shlex.join([self._tools[tool], *arguments]))
