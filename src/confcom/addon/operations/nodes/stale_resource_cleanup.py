"""Removing from the nodes' status what the kubelet keeps of resources whose device plugin is gone."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from concurrent import futures

from confcom.addon.cluster.kubectl import ASKED_AT_ONCE
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.model.problems import shown
from confcom.addon.operations.apply.add_on import POLL_SECONDS, AddOn
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout_report import NotReadyError
from confcom.addon.status.stale_resources import (
    BUSY_KUBELET_SECONDS,
    KUBELET_KEEPS_SECONDS,
    REPORT_SECONDS,
    Settling,
    Stage,
    StaleResources,
    removal,
    stale_resources,
)
from confcom.kubernetes.objects import KubernetesObject, name_of

CLEANING_SECONDS = KUBELET_KEEPS_SECONDS + REPORT_SECONDS + BUSY_KUBELET_SECONDS
"""Deadline, counted from the plugin's end: a kubelet that reports has forgotten the resources by then."""


def clean_nodes(add_on: AddOn) -> None:
    """Wait until every kubelet has forgotten our resources, and remove their keys from the nodes' status.

    Nodes that never had the add-on are not changed. Resources that another plugin offers on the add-on's nodes are
    reported, and stay.

    Raises:
        NotReadyError: some nodes still have our resources.
        ClusterAccessError: the API server was unreachable until the deadline.
    """
    started = add_on.clock()
    settling = Settling()
    title = f"Kubelets keep a resource for {KUBELET_KEEPS_SECONDS / 60:.0f} minutes after its plugin stops"
    with add_on.reporter.waiting(title) as table:
        while True:
            passed = add_on.clock() - started
            left: Sequence[StaleResources] = ()
            try:
                left, failures = _look_and_remove(add_on, settling.last_seen, passed)
            except ClusterAccessError as error:
                if passed >= CLEANING_SECONDS:
                    raise
                table.show([Row("API server", error.why or error.what, Mark.BAD)])
            else:
                settling = settling.after(left, passed)
                table.show(_rows(left, failures), note=f"{passed:.0f} s of at most {CLEANING_SECONDS:.0f} s")
                if settling.settled(left, passed):
                    break
                if passed >= CLEANING_SECONDS:
                    raise _too_late(left, failures)
            add_on.sleep(POLL_SECONDS)
    for one in left:
        if one.others:
            add_on.reporter.say(f"Left on {one.node}: {', '.join(one.others)}, which another device plugin offers.")


def remove_written(add_on: AddOn) -> Sequence[StaleResources]:
    """Remove what the controller has written into the nodes' status, without waiting for any kubelet.

    Returns:
        What each node still has.

    Raises:
        ClusterAccessError: the nodes cannot be listed.
    """
    _look_and_remove(add_on, (), 0)
    return [stale_resources(node) for node in _nodes(add_on)]


def _nodes(add_on: AddOn) -> Sequence[KubernetesObject]:
    return add_on.api.list_objects("nodes", "--show-managed-fields")


def _look_and_remove(
    add_on: AddOn, ours: Container[str], passed: float
) -> tuple[Sequence[StaleResources], Mapping[str, str]]:
    """Return what each node still has, and by the node's name why its removal failed."""
    nodes = _nodes(add_on)
    left = [stale_resources(node, ours=name_of(node) in ours, passed=passed) for node in nodes]
    # A failed patch is retried: a plugin came back, or the kubelet reported in between. A webhook or a policy may
    # refuse it too, which the API server's review of permissions does not show.
    removable = [node for node, one in zip(nodes, left, strict=True) if one.stage in {Stage.DEAD, Stage.WRITTEN}]
    with futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        answers = pool.map(lambda node: add_on.api.patch_node_status(name_of(node), removal(node)), removable)
        failures = {name_of(node): why for node, why in zip(removable, answers, strict=True) if why}
    return left, failures


def _rows(left: Sequence[StaleResources], failures: Mapping[str, str]) -> list[Row]:
    rows = []
    for one in left:
        if one.names:
            told = f"{one.stage}: {', '.join(one.names)}"
            if one.node in failures:
                told += f"; their removal failed: {failures[one.node]}"
            mark = Mark.BAD if one.stage is Stage.SILENT or one.node in failures else Mark.WAITING
            rows.append(Row(one.node, told, mark))
    return rows


def _too_late(left: Sequence[StaleResources], failures: Mapping[str, str]) -> NotReadyError:
    open_ones = [one for one in left if one.stage is not Stage.CLEAN]
    told = [f"{one.node}: {', '.join(one.names)}, {one.stage}" for one in open_ones]
    for why in dict.fromkeys(failures.values()):  # usually the same for many nodes
        nodes = shown([node for node in failures if failures[node] == why])
        told += [f"their removal failed on {nodes}: {why}"]
    remedies = []
    if failures:
        remedies.append(
            "get permission to patch nodes/status (the refusal names the webhook, the policy or the permission), then "
            "run "
            "`confcom disable` again"
        )
    if any(one.stage is Stage.SILENT for one in open_ones):
        remedies.append("run `confcom disable` again when these kubelets report again")
    if not remedies:
        remedies.append("run `confcom disable` again; if a kubelet keeps the resources, see its log")
    return NotReadyError(
        "the nodes' status still contains resources of the add-on",
        error_code="resources-left-on-nodes",
        why="; ".join(told),
        remedy="; ".join(remedies),
    )
