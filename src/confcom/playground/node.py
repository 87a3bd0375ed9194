"""The node and its small API server: objects, scheduler, Job controller. It implements the control API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from confcom.playground.api.object_store import ObjectStore
from confcom.playground.api.objects import Job, Pod
from confcom.playground.api.views import ApplyResult, JobStatus, NodeState, NodeView, Phase
from confcom.playground.kubelet.device_manager import DIAL_SECONDS, ENDPOINT_STOP_GRACE_SECONDS, DeviceManager
from confcom.playground.kubelet.ledger import DeviceLedger
from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.kubelet.pod_worker import PodWorker
from confcom.playground.kubelet.rules import CONTAINER_BACK_OFF, JOB_BACK_OFF, BackOff
from confcom.playground.kubelet.scheduler import total, unschedulable
from confcom.playground.layout import Layout
from confcom.playground.runtime.container import Runner
from confcom.playground.runtime.images import Image
from confcom.playground.runtime.log_files import log_path, read_log
from confcom.playground.runtime.modes import ChosenMode

_logger = logging.getLogger(__name__)

NAME = "playground"
"""The node's name."""

NODE_STOP_GRACE_SECONDS = 2.0
"""The containers' grace period, between SIGTERM and SIGKILL, when the node stops."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays that tests shorten."""

    container_back_off: BackOff = CONTAINER_BACK_OFF
    job_back_off: BackOff = JOB_BACK_OFF
    dial_seconds: float = DIAL_SECONDS
    stop_grace_seconds: float = ENDPOINT_STOP_GRACE_SECONDS


class Node:
    """One node."""

    def __init__(
        self,
        layout: Layout,
        images: Mapping[str, Image],
        chosen: ChosenMode,
        *,
        instance: str,
        suffix: Callable[[], str],
        rules: KubeletRules = KubeletRules.UP_TO_1_36,
        timing: Timing | None = None,
    ) -> None:
        timing = timing or Timing()
        self._layout = layout
        self._images = images
        self._chosen = chosen
        self._job_back_off = timing.job_back_off
        self._objects = ObjectStore(suffix)
        self._revision = 0
        self._change = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._reconcile_scheduled = False
        self._ledger = DeviceLedger()
        self._devices = DeviceManager(
            layout.device_plugin_dir,
            self._ledger,
            self._changed,
            rules=rules,
            dial_seconds=timing.dial_seconds,
            stop_grace_seconds=timing.stop_grace_seconds,
        )
        self._worker = PodWorker(
            layout=layout,
            devices=self._devices,
            ledger=self._ledger,
            runner=Runner(chosen, instance=instance),
            images=images,
            changed=self._changed,
            back_off=timing.container_back_off,
        )

    async def start(self) -> None:
        """Remove the pod directories of an earlier node, and start the device manager."""
        for leftover in self._layout.pods.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        await self._devices.start()

    async def stop(self) -> None:
        """Stop every container, then the device manager."""
        for job in self._objects.jobs.values():
            job.cancel_retry()
        self._objects.jobs.clear()
        for pod in self._objects.pods.values():
            if pod.deleting:
                for process in pod.processes:
                    process.kill()
        await asyncio.gather(*(self._remove(pod, NODE_STOP_GRACE_SECONDS) for pod in list(self._objects.pods.values())))
        await self._devices.stop()

    def kill(self) -> None:
        """Send SIGKILL to every container, so that a running `stop` need not wait for grace periods."""
        for pod in self._objects.pods.values():
            for process in pod.processes:
                process.kill()

    def state(self) -> NodeState:
        """Return the current state."""
        return NodeState(
            revision=self._revision,
            node=NodeView(
                name=NAME,
                mode=self._chosen.mode,
                mode_reason=self._chosen.reason,
                pid=os.getpid(),
                capacity=self._ledger.capacity(),
                allocatable=self._ledger.allocatable(),
                allocated=self._ledger.allocated(),
                ledger=self._ledger.lines(),
            ),
            pods=tuple(pod.view(self._ledger.allocated(pod.name)) for pod in self._objects.pods.values()),
            jobs=tuple(job.view(self._objects.pods_of(job)) for job in self._objects.jobs.values()),
            events=self._ledger.events(),
        )

    async def changed_since(self, revision: int, seconds: float) -> NodeState:
        """Return the state when it differs from a revision, or the unchanged state after so many seconds."""
        if revision >= self._revision:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._change.wait()
        return self.state()

    def apply(self, text: str) -> ApplyResult:
        """Create the objects of a manifest, all or none.

        Raises:
            ManifestError: the manifest is refused.
            AlreadyExistsError: an object of that name exists, or the manifest has it twice.
            ConfcomError: there are too many objects.
        """
        result = self._objects.create(text)
        self._changed()
        return result

    async def delete(self, kind: str, name: str, grace_period: float | None) -> None:
        """Delete an object, and return when its processes have ended and its devices are free."""
        found = self._objects.find(kind, name)
        if isinstance(found, Job):
            found.cancel_retry()
            del self._objects.jobs[name]
            pods = self._objects.pods_of(found)
        else:
            pods = (found,)
        removals = [self._spawn(self._remove(pod, grace_period)) for pod in pods]
        # wait(), not gather(): the deletion continues if the client disconnects and this call is cancelled.
        if removals:
            await asyncio.wait(removals)
        self._changed()

    def logs(self, name: str, container: str | None) -> str:
        """Return the end of a container's log.

        Raises:
            NotFoundError: no such pod or container, or the pod has several and none is named.
        """
        return read_log(self._layout, self._objects.pod(name), container)

    def images(self) -> dict[str, tuple[str, ...]]:
        """Return the image table: name -> argv."""
        return {name: image.argv for name, image in sorted(self._images.items())}

    async def restart_kubelet(self) -> None:
        """Simulate a restart of the kubelet for device plugins; containers keep running."""
        await self._devices.restart()

    def _next_pod(self, job: Job) -> None:
        job.retry = None
        self._objects.add_pod_of(job)
        self._changed()

    def _changed(self) -> None:
        self._revision += 1
        self._change.set()
        self._change = asyncio.Event()
        if not self._reconcile_scheduled:
            self._reconcile_scheduled = True
            asyncio.get_running_loop().call_soon(self._reconcile)

    def _reconcile(self) -> None:
        """Run the scheduler and the Job controller once; this is called after every change."""
        self._reconcile_scheduled = False
        pods = list(self._objects.pods.values())
        used = total(pod.spec.requests for pod in pods if pod.bound and not pod.phase.terminal)
        for pod in pods:
            if not pod.bound and not pod.deleting and self._schedule(pod, used):
                used = total((used, pod.spec.requests))
        for job in self._objects.jobs.values():
            own = self._objects.pods_of(job)
            if job.status is JobStatus.RUNNING and job.fail_if_limit_exceeded(sum(pod.restarts for pod in own)):
                for pod in own:
                    self._spawn(self._remove(pod))
                self._changed()

    def _schedule(self, pod: Pod, used: Mapping[str, int]) -> bool:
        if pod.spec.node_name:
            message = (
                "" if pod.spec.node_name == NAME else f"waits for the node {pod.spec.node_name}; this one is {NAME}"
            )
        else:
            message = unschedulable(pod.spec.requests, self._ledger.allocatable(), used)
        if message:
            if message != pod.message:
                pod.reason, pod.message = "Unschedulable", message
                self._changed()
            return False
        pod.bound, pod.reason, pod.message = True, "", ""
        for container in pod.containers:
            log_path(self._layout, pod, container.spec.name).unlink(missing_ok=True)
        pod.task = self._spawn(self._run(pod))
        self._changed()
        return True

    async def _run(self, pod: Pod) -> None:
        await self._worker.run(pod)
        job = self._running_owner(pod)
        if job is None:
            return
        if pod.phase is Phase.SUCCEEDED:
            job.complete()
            self._changed()
        else:
            self._record_job_failure(job)

    def _running_owner(self, pod: Pod) -> Job | None:
        job = pod.owner
        if job is None or job.status is not JobStatus.RUNNING or self._objects.jobs.get(job.name) is not job:
            return None
        return job

    def _record_job_failure(self, job: Job) -> None:
        job.failed += 1
        if not job.fail_if_limit_exceeded(0):
            delay = self._job_back_off.after(job.failed)
            job.retry = asyncio.get_running_loop().call_later(delay, self._next_pod, job)
        self._changed()

    async def _remove(self, pod: Pod, grace_period: float | None = None) -> None:
        """Stop a pod's containers and delete the pod; None stands for the grace period of its manifest."""
        if not pod.deleting:
            own = pod.spec.termination_grace_period_seconds
            pod.deleting, pod.stop_grace = True, own if grace_period is None else grace_period
            self._changed()
            if pod.task is not None:
                pod.task.cancel()
        if pod.task is not None:
            await asyncio.wait([pod.task])
        if self._objects.pods.get(pod.name) is not pod:
            return
        del self._objects.pods[pod.name]
        shutil.rmtree(self._layout.pods / pod.name, ignore_errors=True)
        if (job := self._running_owner(pod)) is not None and not pod.phase.terminal:
            self._record_job_failure(job)
        self._changed()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            _logger.error("a task of the node failed", exc_info=bug)
