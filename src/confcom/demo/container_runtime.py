"""Starts containers: processes, with their own namespaces if the machine allows namespaces. Chooses the mode.

A shell script builds a container's root file system from the machine's files and a new /dev, /proc and /run. The
script runs in a new mount namespace and uses a tmpfs, so it creates nothing on the machine, not even mount points.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import confcom
from confcom.demo.job_file import Job
from confcom.errors import SIGNAL_EXIT_BASE, ConfcomError, SettingsError, shortened
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.namespaces.modes import AUTO, TOOLS, Mode
from confcom.namespaces.mount_script import AESMD, DEV, HOST_DEVICE, PROC, Bind, MountScript, run_directories

PROBE_SECONDS = 10.0
"""Deadline in seconds of a probe container, which usually takes 0.1 s. A slower machine cannot run the demo."""

SAMPLE_WORKLOAD = f"registry.test/confcom/sample-workload:{confcom.__version__}"

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that container runtimes set if the image sets no PATH."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: variables, and a program on this machine, because the demo pulls nothing from a registry."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


class ContainerError(ConfcomError):
    """A container cannot be created."""

    error_code = "container-not-created"


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


def plan_container(job: Job, image: Image, allocation: pb.ContainerAllocateResponse, node_root: Path) -> ContainerPlan:
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
            output = " ".join(self.setup_log.read_text(errors="replace").split())
            raise _not_started(shortened(output) or f"its start exited {code}")
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
    """Return why a probe container fails in a mode, or "": some systems allow a namespace but deny its mounts."""
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
            plan = ContainerPlan(argv, binds=binds)
            process = await runtime.start(plan, directory / "start", directory / "source/log")
            code = await process.wait()
    except ContainerError as error:
        return error.why
    except TimeoutError:
        return f"the probe container took longer than {PROBE_SECONDS:g} s"
    return f"the probe container exited {code}" if code else ""


def root_script(plan: ContainerPlan, tools: Mapping[str, str], *, root: Path, ready: Path) -> str:
    """Return the script that mounts the root over the empty directory `root`, and executes the program."""
    script = MountScript(tools, root)
    script.copy_directory(Path("/"), without={DEV.name, PROC.name})
    for run in run_directories():
        script.copy_directory(run, without={AESMD})
    script.proc()
    script.dev()
    for bind in plan.binds:
        _require_mount_point(bind)
        script.bind(bind)
    variables = [f"{name}={value}" for name, value in plan.env.items()]
    script.lines.append(f": > {shlex.quote(str(ready))}")
    words = [tools["chroot"], str(root), tools["env"], "-i", "--", *variables, *plan.argv]
    script.lines.append(f"exec {shlex.join(words)} 2>&1")
    return "\n".join(["set -e", *script.lines, ""])


def _require_mount_point(bind: Bind) -> None:
    target = Path(os.path.realpath(bind.container_path))
    on_tmpfs = not {DEV, *run_directories()}.isdisjoint(target.parents)
    if not on_tmpfs and Path("/", target.parts[1]).exists() and not target.exists():
        raise ContainerError(
            f"nothing can be mounted at {bind.container_path}",
            error_code="mount-point-missing",
            why="the demo creates mount points only below /run, and in new directories of /",
            remedy="choose another mountPath",
        )
