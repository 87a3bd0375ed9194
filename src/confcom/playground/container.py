"""One container's process: started in the node's mode, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from confcom.playground.container_plan import ContainerError, ContainerPlan
from confcom.playground.guardian import sweep
from confcom.playground.layout import AESMD_DIR
from confcom.playground.machine import Machine
from confcom.playground.modes import ChosenMode, Mode
from confcom.playground.root_file_system import program, root_script

MAX_MESSAGE_BYTES = 2048
"""How much of a failed start is repeated in the pod's status."""

SIGNAL_EXIT_BASE = 128
"""Exit code of a program that a signal ended is this plus the signal's number, as shells and runtimes report it."""

START_ERROR = 128
"""Exit code of a container whose start failed, as containerd reports it."""

MARK_VARIABLE = "CONFCOM_PLAYGROUND_CONTAINER"
"""Marks a container's processes where no namespace holds them together: NODE/DIRECTORY."""

_ENCLAVE_DEVICES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""Both spellings: in-tree and out-of-tree driver."""


class ContainerProcess:
    """A container that was started.

    Args:
        process: its process, leader of a session of its own.
        ready: exists once all was mounted; None if there is nothing to mount, and nothing that holds its processes
            together.
        setup_log: what the start complained about.
        mark: is in the environment of all its processes.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, ready: Path | None, setup_log: Path, mark: str) -> None:
        self._process = process
        self._ready = ready
        self._setup_log = setup_log
        self._mark = mark

    async def wait(self) -> int:
        """Wait for its end, and end what it left behind.

        Returns:
            Its exit code; SIGNAL_EXIT_BASE + the signal's number if a signal ended it.

        Raises:
            ContainerError: it never started.
        """
        code = await self._process.wait()
        await self._end()
        if self._ready is not None and not self._ready.exists():
            raise ContainerError("the container could not be started", why=self._setup_error(code))
        return code if code >= 0 else SIGNAL_EXIT_BASE - code

    async def stop(self, grace_period: float) -> None:
        """SIGTERM, wait, SIGKILL, to its whole process group."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_period):
                await self._process.wait()
        await self._end()

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
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
    """Starts containers in one mode.

    Args:
        chosen: how.
        instance: tells this node's processes from another's.
    """

    def __init__(self, chosen: ChosenMode, *, instance: str) -> None:
        self._chosen = chosen
        self._instance = instance

    def environment(self, plan: ContainerPlan, directory: Path) -> Mapping[str, str]:
        """What the container's program finds in its environment.

        Without a mount namespace its paths are not in place, so our client is told where they are instead; what the
        manifest says of the same variables goes before.
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
            plan: what it is made of; the sources of its binds exist.
            directory: a directory of its own, which is emptied.
            log: where its output is appended.

        Raises:
            ContainerError: it cannot be made.
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
            raise ContainerError("the container could not be started", why=str(error)) from None
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
    """Where a path of the container is without a mount namespace."""
    return directory / "root" / container_path.lstrip("/")


def _link(link: Path, target: Path) -> None:
    """A link in a mount's place; one that would lie inside of another mount is left out."""
    with contextlib.suppress(FileExistsError, NotADirectoryError):
        if not any(parent.is_symlink() for parent in link.parents):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
