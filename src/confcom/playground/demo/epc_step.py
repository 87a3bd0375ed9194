"""Step 6: EPC is finite. A Job that does not fit stays Pending, with the reason, and runs when EPC is released."""

from __future__ import annotations

from confcom.playground.api.views import NodeState, Phase, PodView
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import EPC_RESOURCE, QUOTE_PREFIX, DemoContext, Notes
from confcom.playground.demo.jobs import epc_event, pod_of, require_phase, submit_example, wait_for

HOLDING_JOB = "sgx-holding"
LARGE_JOB = "sgx-large"
UNSCHEDULABLE = f"0/1 nodes are available: 1 Insufficient {EPC_RESOURCE}."
"""The beginning of the scheduler's message; its part about preemption follows."""


def pending_then_runs(context: DemoContext, notes: Notes) -> None:
    """Submit a Job that holds EPC and a Job that does not fit beside it; delete the first, so that the second runs."""
    submit_example(context, notes, "job-holding.yaml")
    held = epc_event(context, HOLDING_JOB, "Allocated")
    holder = require_phase(context, HOLDING_JOB, Phase.RUNNING)
    # Before it installs a handler, the first process of a container ignores SIGTERM, here as on Kubernetes.
    context.processes.wait_until(f"a quote of Job {HOLDING_JOB}", lambda: _has_quoted(context, holder.name))
    notes.say(f"ledger: {held.message}")

    submit_example(context, notes, "job-large.yaml")
    message = _pending_reason(context)
    if not message.startswith(UNSCHEDULABLE):
        raise StepError(
            f"Job {LARGE_JOB} waits for another reason than EPC", error_code="pending-for-other-reason", why=message
        )
    notes.say(f"Job {LARGE_JOB} stays Pending: {UNSCHEDULABLE}")

    context.run(notes, "playground", "delete", "--dir", str(context.folder), "job", HOLDING_JOB)
    released = epc_event(context, HOLDING_JOB, "Released")
    notes.say(f"ledger: {released.message}")

    allocated = epc_event(context, LARGE_JOB, "Allocated")
    notes.say(f"ledger: {allocated.message}")
    pod = require_phase(context, LARGE_JOB, Phase.SUCCEEDED)
    notes.say(f"Job {LARGE_JOB} ran: exit code {pod.exit_code}")
    epc_event(context, LARGE_JOB, "Released")
    left = context.node.node().allocated.get(EPC_RESOURCE, 0)
    if left:
        raise StepError(f"{left} MiB of EPC are still held although every pod has ended", error_code="epc-not-released")
    notes.say("all EPC is free again")
    notes.data.update(
        held_mib=held.count, pending_reason=message, released_mib=released.count, large_mib=allocated.count
    )


def _has_quoted(context: DemoContext, pod: str) -> tuple[bool, str]:
    log = context.node.logs(pod)
    return f"\n{QUOTE_PREFIX}" in log, f"its log says: {log[-200:]!r}"


def _pending_reason(context: DemoContext) -> str:
    def scheduling_attempted(state: NodeState) -> PodView | None:
        pod = pod_of(state, LARGE_JOB)
        return pod if pod is not None and (pod.phase is not Phase.PENDING or pod.message) else None

    pod = wait_for(context, LARGE_JOB, scheduling_attempted, f"Job {LARGE_JOB} was not looked at")
    if pod.phase is not Phase.PENDING:
        raise StepError(f"Job {LARGE_JOB} is {pod.phase} although its EPC does not fit", error_code="job-not-pending")
    return pod.message
