"""One container's process: start, wait, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from confcom.playground.layout import AESMD_DIR
from confcom.playground.runtime.container_plan import ContainerError, ContainerPlan
from confcom.playground.runtime.guardian import sweep
from confcom.playground.runtime.machine import Machine
from confcom.playground.runtime.modes import ChosenMode, Mode
from confcom.playground.runtime.root_file_system import program, root_script

MAX_MESSAGE_BYTES = 2048
"""How much of a failed start's output the pod's status repeats."""

SIGNAL_EXIT_BASE = 128
"""The exit code of a program that a signal ended is this plus the signal's number, as shells and runtimes report."""

START_ERROR = 128
"""The exit code of a container whose start failed, as containerd reports it."""

MARK_VARIABLE = "CONFCOM_PLAYGROUND_CONTAINER"
"""Marks a container's processes in the mode without namespaces; its value is NODE/DIRECTORY."""

_ENCLAVE_DEVICES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""The paths of the in-tree and the out-of-tree driver."""


class ContainerProcess:
    """A started container.

    Args:
        process: its first process, which leads a session of its own.
        ready: a file that exists once everything is mounted; None in the mode without namespaces, where nothing is
            mounted and processes can outlive the first one.
        setup_log: the output of the setup script.
        mark: an environment variable of all its processes, as NAME=VALUE.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, ready: Path | None, setup_log: Path, mark: str) -> None:
        self._process = process
        self._ready = ready
        self._setup_log = setup_log
        self._mark = mark

    async def wait(self) -> int:
        """Wait until the container ends, and kill its remaining processes.

        Returns:
            Its exit code; SIGNAL_EXIT_BASE + the signal's number if a signal ended it.

        Raises:
            ContainerError: the container never started.
        """
        code = await self._process.wait()
        await self._end()
        if self._ready is not None and not self._ready.exists():
            raise ContainerError(
                "the container could not be started", error_code="start-failed", why=self._setup_error(code)
            )
        return code if code >= 0 else SIGNAL_EXIT_BASE - code

    async def stop(self, grace_period: float) -> None:
        """Send SIGTERM to the whole process group, wait, then send SIGKILL."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_period):
                await self._process.wait()
        await self._end()

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        self._signal(signal.SIGKILL)

    async def _end(self) -> None:
        self.kill()
        await self._process.wait()
        if self._ready is None:
            await asyncio.to_thread(sweep, self._mark)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _setup_error(self, code: int) -> str:
        with contextlib.suppress(OSError):
            if text := self._setup_log.read_bytes()[-MAX_MESSAGE_BYTES:].decode(errors="replace").strip():
                return text
        return f"its start exited {code}"


class Runner:
    """Starts containers in one mode."""

    def __init__(self, chosen: ChosenMode, *, instance: str) -> None:
        self._chosen = chosen
        self._instance = instance

    def environment(self, plan: ContainerPlan, directory: Path) -> Mapping[str, str]:
        """Return the environment of the container's program.

        Without a mount namespace nothing is at its container path, so two variables tell our client the real paths.
        If the manifest sets the same variables, the manifest's values are used.
        """
        if self._chosen.mode is not Mode.NO_NAMESPACE:
            return plan.env
        where: dict[str, str] = {}
        for bind in plan.binds:
            if bind.container_path in {PurePosixPath(AESMD_DIR), PurePosixPath("/run/aesmd")}:
                where["CONFCOM_AESM_SOCKET"] = str(bind.source / "aesm.socket")
        given = {device.container_path for device in plan.devices}
        for path in _ENCLAVE_DEVICES:
            if path in given:
                where.setdefault("CONFCOM_SGX_ENCLAVE_DEVICE", str(_inside(directory, path)))
        return {**where, **plan.env}

    async def start(self, plan: ContainerPlan, directory: Path, log: Path) -> ContainerProcess:
        """Start a container.

        Args:
            plan: argv, environment, devices and mounts; the sources of its binds exist.
            directory: the container's own directory, which is emptied.
            log: the file to which its output is appended.

        Raises:
            ContainerError: the container cannot be created.
        """
        setup_log = directory / "setup.log"
        ready = None if self._chosen.mode is Mode.NO_NAMESPACE else directory / "ready"
        try:
            script = self._write_script(plan, directory, ready)
            with log.open("ab") as output, setup_log.open("ab") as setup_output:
                process = await asyncio.create_subprocess_exec(
                    *self._chosen.prefix,
                    self._chosen.tools.sh,
                    str(script),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=setup_output,
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            raise ContainerError(
                "the container could not be started", error_code="start-failed", why=str(error)
            ) from None
        mark = f"{MARK_VARIABLE}={self._mark(directory)}"
        return ContainerProcess(process, ready=ready, setup_log=setup_log, mark=mark)

    def _mark(self, directory: Path) -> str:
        return f"{self._instance}{directory}/"

    def _write_script(self, plan: ContainerPlan, directory: Path, ready: Path | None) -> Path:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        path = directory / "start.sh"
        path.write_text(self._script(plan, directory, ready), encoding="utf-8", errors="surrogateescape")
        return path

    def _script(self, plan: ContainerPlan, directory: Path, ready: Path | None) -> str:
        tools = self._chosen.tools
        if ready is not None:
            (root := directory / "rootfs").mkdir()
            return root_script(plan, Machine(), tools, root=root, ready=ready)
        for device in plan.devices:
            _link(_inside(directory, device.container_path), Path(device.host_path))
        for bind in plan.binds:
            _link(_inside(directory, str(bind.container_path)), bind.source)
        plan = replace(plan, env={**self.environment(plan, directory), MARK_VARIABLE: self._mark(directory)})
        return f"exec {program(plan, tools)}\n"


def _inside(directory: Path, container_path: str) -> Path:
    return directory / "root" / container_path.lstrip("/")


def _link(link: Path, target: Path) -> None:
    """Create a symbolic link instead of a mount; skip a link that would lie inside another mount."""
    with contextlib.suppress(FileExistsError, NotADirectoryError):
        if not any(parent.is_symlink() for parent in link.parents):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
