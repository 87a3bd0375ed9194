"""Describing a container that the kernel killed for memory, and the chart value that gives it more. Pure."""

from __future__ import annotations

from confcom.addon.model.chart_objects import AESMD, Component, component_of
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, number, quantity, text

OOM_KILLED = "OOMKilled"
"""The kubelet's reason for a container that the kernel killed for memory."""
_MIB = 1024 * 1024
_VALUES = {Component.DEVICE_PLUGIN: "devicePlugin", Component.QUOTE_HELPER: "quoteHelper"}
"""By the daemon, the key in the chart's values that contains its `resources`."""


def memory_kill(pod: KubernetesObject, container: KubernetesObject) -> str:
    """Describe that a container was killed for memory, with its limit and what to do; empty if it was not."""
    ended = next(
        (
            one
            for state in ("state", "lastState")
            if text(one := mapping(container, state, "terminated"), "reason") == OOM_KILLED
        ),
        None,
    )
    if ended is None:
        return ""
    limit = _limit(pod, text(container, "name"))
    allowed = f"its memory limit is {limit}" if limit else "it has no memory limit; the node ran out of memory"
    told = (
        f"{OOM_KILLED}: {allowed} (exit code {number(ended, 'exitCode')}, {number(container, 'restartCount')} restarts)"
    )
    component = component_of(pod)
    if not limit or component is None:
        return told
    part = f".{AESMD}" if text(container, "name") == AESMD else ""
    value = f"{_VALUES[component]}{part}.resources.limits.memory"
    return f"{told}: `confcom update --set {value}={_doubled(limit)}` doubles the limit"


def _limit(pod: KubernetesObject, container: str) -> str:
    containers = [*listing(pod, "spec", "initContainers"), *listing(pod, "spec", "containers")]
    found = next((one for one in containers if text(one, "name") == container), {})
    return text(found, "resources", "limits", "memory")


def _doubled(limit: str) -> str:
    twice = int(2 * (quantity(limit) or 0))
    return f"{twice // _MIB}Mi" if twice % _MIB == 0 else str(twice)
