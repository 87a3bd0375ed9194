"""The kubelet's pod worker: admission of a pod, its containers, their restarts, its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confcom.playground.api.objects import Container, Pod
from confcom.playground.api.views import Phase
from confcom.playground.kubelet.allocation import Allocation
from confcom.playground.kubelet.device_manager import DeviceManager
from confcom.playground.kubelet.ledger import AdmissionError, DeviceLedger
from confcom.playground.kubelet.rules import BackOff, ContainerState, pod_phase, restarts
from confcom.playground.kubelet.volumes import prepare_host_path, prepare_mounts, resolve_host_path
from confcom.playground.layout import Layout
from confcom.playground.runtime.container import START_ERROR, ContainerProcess, Runner
from confcom.playground.runtime.container_plan import ContainerError, plan_container
from confcom.playground.runtime.images import Image, missing_image
from confcom.playground.runtime.log_files import log_path

_logger = logging.getLogger(__name__)


class ImageMissingError(ContainerError):
    """The image table lacks an image; the reason in the pod's status is ErrImageNeverPull."""

    error_code = "image-missing"


@dataclass(frozen=True, slots=True)
class PodWorker:
    """Runs pods that are bound to the node."""

    layout: Layout
    devices: DeviceManager
    ledger: DeviceLedger
    runner: Runner
    images: Mapping[str, Image]
    changed: Callable[[], None]
    back_off: BackOff

    async def run(self, pod: Pod) -> None:
        """Run a pod until it ends. Cancellation stops its containers, with the grace period `pod.stop_grace`."""
        try:
            if (allocations := await self._admit(pod)) is None:
                return
            async with asyncio.TaskGroup() as group:
                for container, allocation in zip(pod.containers, allocations, strict=True):
                    group.create_task(self._keep_running(pod, container, allocation))
        finally:
            self.ledger.release(pod.name)
            self.changed()

    async def _admit(self, pod: Pod) -> list[Allocation] | None:
        try:
            return [
                await self.devices.allocate(pod.name, container.spec.name, container.spec.devices)
                for container in pod.containers
            ]
        except AdmissionError as error:
            pod.phase, pod.reason, pod.message = Phase.FAILED, error.pod_reason, error.pod_message
            _logger.warning("pod rejected", extra={"pod": pod.name, "reason": str(error)})
            return None

    async def _keep_running(self, pod: Pod, container: Container, allocation: Allocation) -> None:
        """Run a container, and restart it by the pod's restart policy, each time with the same allocation."""
        failures = 0
        while True:
            try:
                process = await self._start(pod, container, allocation)
            except ContainerError as error:
                failures += 1
                reason = "ErrImageNeverPull" if isinstance(error, ImageMissingError) else "CreateContainerError"
                self._set_state(pod, container, ContainerState.WAITING, reason, str(error))
                await asyncio.sleep(self.back_off.after(failures))
                continue
            self._set_state(pod, container, ContainerState.RUNNING)
            await self._wait(pod, container, process)
            if not restarts(pod.spec.restart_policy, container.exit_code or 0):
                return
            container.restarts += 1
            message = f"{container.reason}, exit code {container.exit_code}; it starts again after a pause"
            self._set_state(pod, container, ContainerState.WAITING, "CrashLoopBackOff", message)
            await asyncio.sleep(self.back_off.after(container.restarts))

    async def _start(self, pod: Pod, container: Container, allocation: Allocation) -> ContainerProcess:
        spec = container.spec
        image = self.images.get(spec.image)
        if image is None:
            raise ImageMissingError(missing_image(spec.image, self.images))
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        for volume in volumes.values():
            prepare_host_path(self.layout, volume)
        pod_directory = self.layout.pods / pod.name
        plan = plan_container(
            spec,
            volumes,
            image,
            allocation,
            hostname=pod.name,
            host_path=lambda path: resolve_host_path(self.layout, path),
            empty_dir=lambda name: pod_directory / "volumes" / name,
        )
        prepare_mounts(plan)
        directory = pod_directory / "containers" / spec.name
        container.argv, container.devices, container.mounts = plan.argv, plan.devices, plan.mounts
        container.env = dict(self.runner.environment(plan, directory))
        return await self.runner.start(plan, directory, log_path(self.layout, pod, spec.name))

    async def _wait(self, pod: Pod, container: Container, process: ContainerProcess) -> None:
        pod.processes.add(process)
        try:
            code = await process.wait()
            reason, message = ("Completed", "") if code == 0 else ("Error", f"exit code {code}")
        except ContainerError as error:
            code, reason, message = START_ERROR, "StartError", str(error)
        except asyncio.CancelledError:
            stopping = asyncio.ensure_future(process.stop(pod.stop_grace))
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                process.kill()
                await stopping
            raise
        finally:
            pod.processes.discard(process)
        container.exit_code = code
        self._set_state(pod, container, ContainerState.TERMINATED, reason, message)

    def _set_state(
        self, pod: Pod, container: Container, state: ContainerState, reason: str = "", message: str = ""
    ) -> None:
        if (container.state, container.reason, container.message) == (state, reason, message):
            return
        container.state, container.reason, container.message = state, reason, message
        pod.phase = pod_phase(((one.state, one.exit_code) for one in pod.containers), pod.spec.restart_policy)
        if pod.phase.terminal:
            self.ledger.release(pod.name)
        extra = {"pod": pod.name, "container": container.spec.name, "state": str(state), "reason": reason}
        _logger.info("container changed", extra=extra)
        self.changed()
