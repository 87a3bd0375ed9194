"""Preflight checks of nodes: presence, labels, taints, and simulation beside hardware. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.model.chart_objects import Plan, has_controller, node_labels, pod_spec_of, simulates
from confcom.addon.model.node_selection import selects, tolerating, untolerated
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import REAL, SETS, allocatable
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL, SgxKind, sgx_kind
from confcom.addon.preflight.findings import Check, Finding
from confcom.kubernetes.objects import KubernetesObject, condition, labels_of, name_of, text

BESIDE_HARDWARE = "--beside-hardware"
"""The option of `confcom enable` that allows simulated nodes in a cluster with SGX hardware."""


def check_simulation(
    plan: Plan,
    nodes: Sequence[KubernetesObject],
    installed: Sequence[KubernetesObject],
    *,
    consent: str = f"add {BESIDE_HARDWARE}",
) -> Iterator[Finding]:
    """Check that the cluster does not mix simulated and hardware nodes without consent, and that no node is both.

    Args:
        plan: what is to be installed.
        nodes: all nodes of the cluster.
        installed: the DaemonSets that are already installed.
        consent: how to allow both, as an imperative.
    """
    simulated = plan.plugins(simulated=True)
    if not simulated:
        yield Finding.ok(Check.SIMULATION, "not wanted", code="simulation-not-wanted")
        return
    simulating = [*simulated, *(daemon for daemon in installed if simulates(daemon))]
    # Where no DaemonSet of ours simulates, the plugin that offers the real names is one for hardware, whoever's it is.
    # EPC alone may be what our controller wrote, which stays when the plugin has gone.
    names = [name for name in REAL.names if name != REAL.epc or not has_controller(installed)]
    offering = [node for node in nodes if any(allocatable(node, name) for name in names)]
    served = {name_of(node) for node in offering} - set(_selected(simulating, offering))
    hardware = [node for node in nodes if sgx_kind(node) is SgxKind.HARDWARE or name_of(node) in served]
    both = _selected(simulated, hardware)
    twice = _selected(simulated, [node for node in nodes if _selected(plan.plugins(simulated=False), [node])])
    if twice and not both:
        yield Finding.failed(
            Check.SIMULATION,
            f"{shown(twice)} is selected for hardware and for simulation",
            why="it has the labels of both, and two device plugins would offer EPC there",
            remedy=f"remove one label:  kubectl label node {twice[0]} {SIMULATED_LABEL}-",
            code="node-chosen-twice",
        )
    elif both:
        yield Finding.failed(
            Check.SIMULATION,
            f"{shown(both)} has SGX hardware and the label for simulation",
            why="the simulated device plugin does not start on a node with an SGX driver",
            remedy=f"remove the label:  kubectl label node {both[0]} {SIMULATED_LABEL}-",
            code="hardware-node-simulated",
        )
    elif hardware and not plan.plugins(simulated=False):
        yield Finding.failed(
            Check.SIMULATION,
            f"this cluster has SGX hardware too: {shown([name_of(node) for node in hardware])}",
            why="the scheduler could place a workload on a simulated node unnoticed",
            remedy=f"{consent}: simulated nodes then offer simulated.confcom.internal/... instead",
            code="hardware-in-cluster",
        )
    elif hardware:
        yield Finding.ok(Check.SIMULATION, "beside hardware", code="simulation-beside-hardware")
    else:
        yield Finding.ok(Check.SIMULATION, "no node has SGX hardware", code="no-hardware-in-cluster")


def _selected(daemons: Sequence[KubernetesObject], nodes: Sequence[KubernetesObject]) -> list[str]:
    return [name_of(node) for node in nodes if any(selects(pod_spec_of(one), node) for one in daemons)]


def check_losses(
    plan: Plan, nodes: Sequence[KubernetesObject], installed: Sequence[KubernetesObject], *, anyway: str
) -> Iterator[Finding]:
    """Check whether nodes that offer EPC would lose the daemons because they lack the labels that the plan selects.

    A platform that the plan lacks entirely is not reported: it was added since, and this change removes it. Affinity
    terms are not checked: as in the chart, they are taken to select exactly the nodes that their author meant.

    Args:
        plan: what is to be installed again.
        nodes: all nodes of the cluster.
        installed: the DaemonSets that are installed.
        anyway: the command that makes the change without this check.
    """
    present = Plan(tuple(installed))
    serving = [node for node in nodes if any(allocatable(node, names.epc) for names in SETS)]
    kept = set(plan.nodes(nodes))
    for simulated in (False, True):
        wanted = plan.plugins(simulated=simulated)
        lost = [one for one in _selected(present.plugins(simulated=simulated), serving) if one not in kept]
        labels = " ".join(node_labels(wanted))
        if labels and lost:
            yield Finding.failed(
                Check.NODES,
                f"{shown(lost)} would lose the daemons, and the workloads there their EPC and quotes",
                why=f"not labelled {labels}",
                remedy="label the nodes that should keep them, then run the command again: kubectl label node "
                f"{lost[0]} {labels}; or accept "
                f"the loss: {anyway}",
                code="nodes-lose-daemons",
            )


def check_nodes(
    plan: Plan,
    nodes: Sequence[KubernetesObject],
    installed: Sequence[KubernetesObject],
    *,
    unknown: Sequence[str],
    allow_none: bool,
) -> Iterator[Finding]:
    """Check that there are nodes for the daemons, and that these can run them.

    Args:
        plan: what is to be installed.
        nodes: all nodes of the cluster.
        installed: the DaemonSets that are already installed.
        unknown: nodes that are to be labelled and do not exist.
        allow_none: whether nodes may be added later.
    """
    if unknown:
        remedy = "kubectl get nodes shows their names"
        yield Finding.failed(
            Check.NODES, f"the cluster has no node {shown(unknown)}", remedy=remedy, code="node-not-found"
        )
        return
    chosen = plan.selected(nodes)
    if not chosen:
        yield _no_nodes(plan, allowed=allow_none)
        return
    for node in chosen:
        there = any(selects(pod_spec_of(daemon), node) for daemon in installed)
        yield from _node_findings(plan, node, installed=there)
    yield Finding.ok(Check.NODES, shown([name_of(node) for node in chosen]), code="nodes-found")


def _no_nodes(plan: Plan, *, allowed: bool) -> Finding:
    wanted = node_labels(plan.daemon_sets)
    labels = ", ".join(wanted) or "the nodes that the values' affinity requires"
    if allowed:
        return Finding.warning(Check.NODES, "no node has SGX yet", why=f"none is labelled {labels}", code="no-nodes")
    if plan.plugins(simulated=True):
        remedy = f"kubectl label node NODE {' '.join(wanted)}"
        if f"{SIMULATED_LABEL}=true" in wanted:
            remedy += "; or let confcom label it: --simulated-node NODE"
    else:
        remedy = (
            "let Node Feature Discovery label the nodes with SGX, or name your own label with --set nodeSelector...; "
            "without SGX hardware: --simulated"
        )
    return Finding.failed(
        Check.NODES,
        "no node for the daemons",
        why=f"none is labelled {labels}",
        remedy=f"{remedy}; for nodes that join later: --allow-no-nodes",
        code="no-nodes",
    )


def _node_findings(plan: Plan, node: KubernetesObject, *, installed: bool) -> Iterator[Finding]:
    name = name_of(node)
    if condition(node, "Ready").get("status") != "True":
        yield Finding.warning(
            Check.NODES,
            f"{name} is not Ready",
            why=text(condition(node, "Ready"), "message"),
            remedy="its daemons are updated when it is Ready, and the command waits for that; the daemons of other "
            "nodes are updated now"
            if installed
            else "its daemons start when the node is Ready",
            code="node-not-ready",
        )
    specs = [pod_spec_of(one) for one in plan.daemon_sets if selects(pod_spec_of(one), node)]
    taints = sorted({taint for spec in specs for taint in untolerated(spec, node)})
    if taints and installed:
        # The taint may be newer: nodes are tainted to be drained, and that must not block a change of the other nodes.
        yield Finding.warning(
            Check.NODES,
            f"{name} is tainted {', '.join(taints)}",
            why="the daemons do not tolerate this taint: none starts there, and a change stops those that run",
            remedy=f"remove the taint; to keep it:  {tolerating(specs, taints)}",
            code="node-tainted",
        )
    elif taints:
        yield Finding.failed(
            Check.NODES,
            f"{name} is tainted {', '.join(taints)}",
            why="the daemons do not tolerate this taint and would not run there",
            remedy=tolerating(specs, taints),
            code="node-tainted",
        )
    if (system := labels_of(node).get("kubernetes.io/os", "linux")) != "linux":
        why = "the add-on supports Linux nodes only"
        yield Finding.failed(Check.NODES, f"{name} runs {system}", why=why, code="node-not-linux")
