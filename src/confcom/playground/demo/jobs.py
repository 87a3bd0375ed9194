"""Functions with which the steps submit Jobs and wait for their phases and events."""

from __future__ import annotations

import shutil
from pathlib import Path

from confcom.playground.api.errors import WaitTimeoutError
from confcom.playground.api.views import Event, NodeState, Phase, PodView
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import EPC_RESOURCE, DemoContext, Notes


def submit(context: DemoContext, notes: Notes, manifest: Path) -> tuple[str, ...]:
    """Apply a manifest with the public command, and return its warnings."""
    arguments = ("playground", "apply", "--dir", str(context.folder), "--output", "json", str(manifest))
    applied = context.run(notes, *arguments).json()
    notes.say(f"submitted {manifest.name}: {', '.join(map(str, _strings(applied, 'objects')))}")
    return _strings(applied, "warnings")


def submit_example(context: DemoContext, notes: Notes, name: str) -> tuple[str, ...]:
    """Submit an unchanged example manifest, from a copy in the demo's folder."""
    manifest = context.folder / name
    shutil.copyfile(context.manifests / name, manifest)
    return submit(context, notes, manifest)


def _strings(answer: dict[str, object], key: str) -> tuple[str, ...]:
    values = answer.get(key)
    return tuple(map(str, values)) if isinstance(values, list) else ()


def pod_of(state: NodeState, job: str) -> PodView | None:
    """Return a Job's newest pod."""
    pods = state.pods_of(job)
    return pods[-1] if pods else None


def require_phase(context: DemoContext, job: str, phase: Phase) -> PodView:
    """Wait until a Job's pod is in a phase, and return the pod.

    Raises:
        StepError: the pod ended in another phase, or did not reach the phase in time.
    """

    def settled(state: NodeState) -> bool:
        pod = pod_of(state, job)
        return pod is not None and (pod.phase is phase or pod.phase.terminal)

    try:
        pod = pod_of(context.node.wait(settled, context.job_seconds, what=f"Job {job} being {phase}"), job)
    except WaitTimeoutError as error:
        raise StepError(
            f"Job {job} was not {phase} within {context.job_seconds:g} s",
            error_code="job-too-slow",
            why=_pod_status(error.state, job),
            remedy=error.remedy,
        ) from error
    if pod is None or pod.phase is not phase:
        raise StepError(
            f"Job {job} ended {pod.phase if pod else 'without a pod'} where {phase} was due",
            error_code="job-ended-otherwise",
            why=_failure_reason(context, pod),
            remedy="`confcom demo --keep` leaves the node up; `confcom playground logs` shows the whole log",
        )
    return pod


def _pod_status(state: NodeState, job: str) -> str:
    pod = pod_of(state, job)
    return f"its pod is {pod.phase}: {pod.reason} {pod.message}" if pod else "it has no pod"


def _failure_reason(context: DemoContext, pod: PodView | None) -> str:
    if pod is None:
        return ""
    log = context.node.logs(pod.name).strip().splitlines()
    return f"exit code {pod.exit_code}, {pod.reason}: {log[-1] if log else pod.message}"


def epc_event(context: DemoContext, job: str, reason: str) -> Event:
    """Wait for a ledger event of a Job's pod: EPC `Allocated` to it or `Released` by it.

    Raises:
        StepError: no such event in time.
    """
    found: list[Event] = []

    def happened(state: NodeState) -> bool:
        pods = {pod.name for pod in state.pods_of(job)}
        of_epc = (event for event in state.events if event.reason == reason and event.resource == EPC_RESOURCE)
        found[:] = [event for event in of_epc if event.pod in pods or event.pod.startswith(f"{job}-")]
        return bool(found)

    try:
        context.node.wait(happened, context.job_seconds, what=f"EPC {reason} for {job}")
    except WaitTimeoutError as error:
        raise StepError(
            f"no EPC was {reason.lower()} for Job {job}", error_code="no-epc-event", why=_pod_status(error.state, job)
        ) from error
    return found[0]
