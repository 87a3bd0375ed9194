"""Functions with which the steps submit Jobs and wait for their phases and events."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from confcom.playground.api.errors import WaitTimeoutError
from confcom.playground.api.views import Event, NodeState, Phase, PodView
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import EPC_RESOURCE, DemoContext, Notes, examples_folder

_Found = TypeVar("_Found")


def submit(context: DemoContext, notes: Notes, manifest: Path) -> tuple[str, ...]:
    """Apply a manifest with the public command, and return its warnings."""
    arguments = ("playground", "apply", "--dir", str(context.folder), "--output", "json", str(manifest))
    applied = context.run(notes, *arguments).json()
    notes.say(f"submitted {manifest.name}: {', '.join(applied['objects'])}")
    return tuple(applied["warnings"])


def submit_example(context: DemoContext, notes: Notes, name: str) -> tuple[str, ...]:
    """Submit an unchanged example manifest, from a copy in the demo's folder."""
    manifest = context.folder / name
    shutil.copyfile(examples_folder() / name, manifest)
    return submit(context, notes, manifest)


def pod_of(state: NodeState, job: str) -> PodView | None:
    """Return a Job's newest pod."""
    pods = state.pods_of(job)
    return pods[-1] if pods else None


def wait_for(context: DemoContext, job: str, find: Callable[[NodeState], _Found | None], missing: str) -> _Found:
    """Wait until something is found in the node's state, and return it."""
    found: list[_Found] = []

    def there(state: NodeState) -> bool:
        if (one := find(state)) is not None:
            found.append(one)
        return bool(found)

    try:
        context.node.wait(there, context.job_seconds)
    except WaitTimeoutError as error:
        pod = pod_of(error.state, job)
        raise StepError(
            f"{missing} within {context.job_seconds:g} s",
            error_code="job-too-slow",
            why=f"its pod is {pod.phase}: {pod.reason} {pod.message}" if pod else "it has no pod",
            remedy=error.remedy,
        ) from error
    return found[0]


def require_phase(context: DemoContext, job: str, phase: Phase) -> PodView:
    """Wait until a Job's pod is in a phase, and return the pod."""

    def settled(state: NodeState) -> PodView | None:
        pod = pod_of(state, job)
        return pod if pod is not None and (pod.phase is phase or pod.phase.terminal) else None

    pod = wait_for(context, job, settled, f"Job {job} was not {phase}")
    if pod.phase is not phase:
        log = context.node.logs(pod.name).strip().splitlines()
        raise StepError(
            f"Job {job} ended {pod.phase} where {phase} was due",
            error_code="job-ended-otherwise",
            why=f"exit code {pod.exit_code}, {pod.reason}: {log[-1] if log else pod.message}",
            remedy="`confcom demo --keep` leaves the node up; `confcom playground logs` shows the whole log",
        )
    return pod


def epc_event(context: DemoContext, job: str, reason: str) -> Event:
    """Wait for a ledger event of a Job's pod: EPC `Allocated` to it or `Released` by it."""

    def happened(state: NodeState) -> Event | None:
        pods = {pod.name for pod in state.pods_of(job)}
        of_epc = (event for event in state.events if event.reason == reason and event.resource == EPC_RESOURCE)
        return next((event for event in of_epc if event.pod in pods or event.pod.startswith(f"{job}-")), None)

    return wait_for(context, job, happened, f"no EPC was {reason.lower()} for Job {job}")
