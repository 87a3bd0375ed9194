"""A node: the kubelet's device manager, and each pod from the scheduler's decision to the pod's end."""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from confcom.demo import container_runtime
from confcom.demo.device_manager import Changes, DeviceManager, PluginRegistry
from confcom.demo.job_file import Job
from confcom.demo.ledger import AdmissionError, DeviceLedger
from confcom.errors import ConfcomError
from confcom.namespaces.mount_script import Bind

GRACE_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL for a deleted pod. The sample workload needs milliseconds."""


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(slots=True, eq=False)
class Pod:
    name: str
    job: Job
    log: Path
    phase: Phase = Phase.PENDING
    message: str = ""
    error: ConfcomError | None = None
    exit_code: int | None = None
    binds: tuple[Bind, ...] = ()
    process: container_runtime.ContainerProcess | None = None
    starting: bool = False
    """Whether the pod's container is being started, so that it cannot be stopped yet."""

    @property
    def ended(self) -> bool:
        return self.phase in {Phase.SUCCEEDED, Phase.FAILED}

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Node:
    """A node in a directory. Its pods and daemons see the path DIRECTORY/node/P as the host path /P."""

    def __init__(
        self,
        directory: Path,
        runtime: container_runtime.ContainerRuntime,
        images: Mapping[str, container_runtime.Image],
        *,
        new_registry: type[PluginRegistry] = PluginRegistry,
    ) -> None:
        self.root = directory / "node"
        self.device_plugin_dir = self.root / "var/lib/kubelet/device-plugins"
        self.aesm_socket = self.root / "var/run/aesmd/aesm.socket"
        self.changes = Changes()
        self.ledger = DeviceLedger()
        self.devices = DeviceManager(self.device_plugin_dir, self.ledger, self.changes, new_registry=new_registry)
        self.runtime = runtime
        self._directory = directory
        self._images = images
        self._numbers = itertools.count(1)
        self._tasks: dict[Pod, asyncio.Task[None]] = {}
        """The tasks of the pods that have not ended."""

    async def start(self) -> None:
        self.device_plugin_dir.mkdir(parents=True)
        (self.root / "run/aesmd").mkdir(parents=True)
        (self.root / "var/run").symlink_to("../run")
        (self._directory / "logs").mkdir(exist_ok=True)
        await self.devices.start()

    async def stop(self) -> None:
        for pod in list(self._tasks):
            await self.delete(pod, grace_seconds=0)
        await self.devices.stop()

    def submit(self, job: Job) -> Pod:
        """Create a Job's pod. The pod starts as soon as the node has the requested devices."""
        name = f"{job.name}-{next(self._numbers)}"
        pod = Pod(name, job, self._directory / "logs" / f"{name}.log")
        self._tasks[pod] = asyncio.create_task(self._run(pod))
        return pod

    async def delete(self, pod: Pod, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stop a pod. Return when the pod's processes have ended and its devices are free."""
        if (task := self._tasks.get(pod)) is not None:
            await self.changes.until(lambda: not pod.starting)
            if pod.process is None:
                task.cancel()
            else:
                await pod.process.stop(grace_seconds)
            await asyncio.wait([task])

    async def _run(self, pod: Pod) -> None:
        try:
            await self._schedule(pod)
            code = await self._run_container(pod)
        except (AdmissionError, container_runtime.ContainerError) as error:
            pod.phase, pod.error = Phase.FAILED, error
        else:
            pod.phase, pod.exit_code = Phase.FAILED if code else Phase.SUCCEEDED, code
        finally:
            self.ledger.release(pod.name)
            del self._tasks[pod]
            self.changes.notify()

    async def _schedule(self, pod: Pod) -> None:
        limits = pod.job.limits
        if not self.ledger.fits(limits):
            short = next(name for name, count in limits.items() if not self.ledger.fits({name: count}))
            pod.message = f"0/1 nodes are available: 1 Insufficient {short}."
            self.changes.notify()
            await self.changes.until(lambda: self.ledger.fits(limits))
            pod.message = ""

    async def _run_container(self, pod: Pod) -> int:
        job = pod.job
        allocation = await self.devices.allocate(pod.name, job.container, job.limits)
        image = self._images.get(job.image)
        if image is None:
            raise container_runtime.ContainerError(
                f"the image {job.image} is not on this node",
                error_code="image-unknown",
                why="the demo pulls nothing from a registry",
                remedy=f"use {' or '.join(sorted(self._images))}, or run the Job on a cluster",
            )
        plan = container_runtime.plan_container(job, image, allocation, self.root)
        pod.starting = True
        try:
            pod.process = await self.runtime.start(plan, self._directory / "pods" / pod.name, pod.log)
            pod.binds = plan.binds
            pod.phase = Phase.RUNNING
        finally:
            pod.starting = False
            self.changes.notify()
        return await pod.process.wait()
