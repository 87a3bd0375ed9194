"""The scheduler: which pods fit the node, and the scheduler's message for those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def total(requests: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of requests, by resource name."""
    used: dict[str, int] = {}
    for one in requests:
        for resource, count in one.items():
            used[resource] = used.get(resource, 0) + count
    return used


def unschedulable(requests: Mapping[str, int], allocatable: Mapping[str, int], used: Mapping[str, int]) -> str:
    """Return why a pod does not fit, as the message of the event FailedScheduling, or "" if it fits.

    A resource that the node does not have is reported as insufficient, like one that is used up. A user sees this
    message when the device plugin is off or has not registered yet.

    Args:
        requests: the pod's requests by resource name.
        allocatable: the node's allocatable resources.
        used: the sum of the requests of all pods on the node that have not ended.
    """
    short = sorted(
        resource
        for resource, count in requests.items()
        if count and count > allocatable.get(resource, 0) - used.get(resource, 0)
    )
    if not short:
        return ""
    never = any(requests[resource] > allocatable.get(resource, 0) for resource in short)
    reasons = ", ".join(f"1 Insufficient {resource}" for resource in short)
    preemption = "Preemption is not helpful for scheduling" if never else "No preemption victims found for incoming pod"
    return (
        f"0/1 nodes are available: {reasons}. no new claims to deallocate, "
        f"preemption: 0/1 nodes are available: 1 {preemption}."
    )
